# SPDX-License-Identifier: Apache-2.0
"""What lies beside the labelled cases in a tree as it is downloaded and unpacked: test parts, notes, stray files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from monai_ext.utils import replacing

__all__ = ["write_beside"]

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(56)
STRAY: dict[str, bytes] = {
    ".DS_Store": b"\x00\x00\x00\x01Bud1" + bytes(56),
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(56),
    "desktop.ini": b"[.ShellClassInfo]\r\n",
    "README.txt": b"phantom data, no clinical meaning\n",
    "md5sums.txt": b"d41d8cd98f00b204e9800998ecf8427e  README.txt\n",
}


def write_beside(folder: Path, case: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Write what a publisher's tree has beside its labelled cases, and what file managers leave; nothing is replaced.

    Args:
        folder: root of a phantom cohort.
        case: one of its cases, ``image`` and ``label``.
        files: path in the tree -> ``"image"`` or ``"label"`` for a copy of the case's, else the text of the file.
    """
    sources = {key: Path(str(ensure_tuple(case[key])[0]).split("::")[0]) for key in ("image", "label")}
    contents: dict[Path, bytes | Path] = {folder / name: data for name, data in STRAY.items()}
    for source in sources.values():
        for root in (source.parent, folder / "__MACOSX" / source.parent.relative_to(folder)):
            contents[root / f"._{source.name}"] = APPLE_DOUBLE
        contents[source.parent / "Thumbs.db"] = STRAY["Thumbs.db"]
    contents |= {folder / name: sources.get(what, what.encode()) for name, what in files.items()}
    for path, content in contents.items():
        if path.exists():
            continue
        with replacing(path) as temporary:
            if isinstance(content, Path):
                shutil.copyfile(content, temporary)
            else:
                temporary.write_bytes(content)
