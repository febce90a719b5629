# SPDX-License-Identifier: Apache-2.0
"""Which files a run used, told by their content: names change, and copies of a scan have many."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

__all__ = ["fingerprint", "hash_file", "hash_files"]

PART = 1 << 20  # bytes read at the start and at the end of a file


def hash_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's size, first and last megabyte; of a folder or a pattern, of all its files.

    A path that is there is that file, whatever its name; otherwise ``FILE::ARRAY`` and ``*`` in the name stand for what
    readers make of them.

    Two files of at most 2 MB with one hash are equal. Of larger ones the middle is not read, so that hundreds of scans
    take seconds; a compressed scan that differs anywhere ends with another checksum.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    files = _files(Path(path))
    if not files:
        raise FileNotFoundError(f"monai_ext: {path}: no such file.")
    total = hashlib.sha256()
    for file in files:
        status = file.stat()
        total.update(_hash(str(file), status.st_size, status.st_mtime_ns))
    return total.hexdigest()


def hash_files(paths: Sequence[str | os.PathLike]) -> str:
    """One hash of several files in their order, of one its own: see :func:`hash_file`."""
    hashes = [hash_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def fingerprint(parts: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The cases of a run: part, id, and the hashes of image and label.

    Args:
        parts: name of a part -> cases, as ``load_datalist`` gives them; labels may be missing. Of a file that cannot
            be read there is no hash.

    Examples::

        >>> fingerprint({"test": [{"image": "a.nii.gz", "case_id": "a"}]})
        [{'part': 'test', 'case': 'a', 'image': '9f86...'}]
    """
    entries = [(part, case) for part, cases in parts.items() for case in cases]
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_entry, entries))


def _entry(item: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    part, case = item
    entry = {"part": part, "case": str(case.get("case_id", Path(str(ensure_tuple(case["image"])[0])).name))}
    for key in ("image", "label"):
        try:
            hashed = hash_files(ensure_tuple(case[key])) if case.get(key) else None
        except (OSError, ValueError):  # whoever reads the case tells of it, and the others are still told apart
            hashed = None
        if hashed:
            entry[key] = hashed
    return entry


def _files(path: Path) -> list[Path]:
    """The files that a path stands for."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if path.is_file():
        return [path]
    if "::" in str(path):
        return _files(Path(str(path).rpartition("::")[0]))
    parts = path.name.split("*")
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    folder = path.parent if len(parts) > 1 and path.parent.is_dir() else None
    return sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name)) if folder else []


@lru_cache(maxsize=100_000)
def _hash(path: str, size: int, changed: int) -> bytes:
    with open(path, "rb") as file:
        digest = hashlib.sha256(str(size).encode() + b"\0" + file.read(PART))
        if size > PART:
            file.seek(max(PART, size - PART))
            digest.update(file.read(PART))
    return digest.digest()
