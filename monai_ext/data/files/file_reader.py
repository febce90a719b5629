# SPDX-License-Identifier: Apache-2.0
"""What the readers of volumes and of pictures share."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.data import ImageReader
from monai.utils import ensure_tuple

__all__ = ["FileReader", "files_at"]

# LoadImage makes all of MONAI's readers, whichever it is asked for; one warns each time that a library is missing
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")


class FileReader(ImageReader):
    """A reader that is asked for by name, and works in ``get_data``."""

    def verify_suffix(self, filename: Sequence[str | os.PathLike] | str | os.PathLike) -> bool:
        return True

    def read(self, data: Sequence[str | os.PathLike] | str | os.PathLike, **kwargs: Any) -> Any:
        # the work is done in get_data: LoadImage turns an error here into a search through other readers
        return ensure_tuple(data)


def files_at(path: str | os.PathLike, accepts: Callable[[str], bool]) -> list[dict[str, str]]:
    """One file, whatever its name, or the files of a folder whose names are accepted, as ``[{"image": ...}]``.

    Hidden files are passed over.

    Raises:
        FileNotFoundError: if there is no such path.
    """
    root = Path(path).expanduser()
    if root.is_file():
        return [{"image": str(root)}]
    if not root.is_dir():
        raise FileNotFoundError(f"monai_ext: {root}: no such file or folder.")
    return [
        {"image": str(p)}
        for p in sorted(root.iterdir())
        if not p.name.startswith(".") and accepts(p.name) and p.is_file()
    ]
