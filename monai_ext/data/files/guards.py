# SPDX-License-Identifier: Apache-2.0
"""What a file says of itself, held against its size before anything is unpacked or reserved for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

__all__ = ["MAX_VALUES", "check_promise", "damaged", "require_file"]

MAX_VALUES = int(os.environ.get("MONAI_EXT_MAX_VOXELS", 2**30))  # 512 x 512 x 4096: longer than any patient
DEFLATE_LIMIT = 1032  # no deflate stream (gzip, zip, png) becomes longer than this times its size


def require_file(path: str | os.PathLike, folder: bool = False) -> None:
    """A file must be there and be one: reading from a pipe or a device may never end.

    Args:
        path: the file.
        folder: accept a folder too.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is something else.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as e:  # also names that are too long, or hold a zero byte
        missing = isinstance(e, (FileNotFoundError, NotADirectoryError))
        what = "no such file or folder" if folder else "no such file"
        reason = what if missing else f"no name of a file ({getattr(e, 'strerror', None) or e})"
        raise FileNotFoundError(f"monai_ext: {os.fspath(path)!s:.500}: {reason}.") from e
    if not stat.S_ISREG(mode) and not (folder and stat.S_ISDIR(mode)):
        raise ValueError(f"monai_ext: {path}: is a folder, a pipe or a device, expected a file.")


def check_promise(path: str | os.PathLike, shape: Sequence[int], itemsize: int, stored: int, packed: bool) -> None:
    """Refuse a header that promises more than the file can hold, or more than is sensible to unpack.

    Args:
        path: the file, for the error.
        shape: what its header says.
        itemsize: bytes of a value.
        stored: bytes that are there for the values.
        packed: whether these are compressed.

    Raises:
        ValueError: names the file, what it promises and what it has.
    """
    values = 1
    for side in shape:
        values *= int(side)
    sides = "x".join(str(int(side)) for side in shape)
    if values < 1 or values * itemsize > stored * (DEFLATE_LIMIT if packed else 1) + 64:
        raise damaged(path, f"{sides} values of {itemsize} bytes do not fit in its {stored} bytes")
    if values > MAX_VALUES:
        raise ValueError(
            f"monai_ext: {path}: {sides} values, more than the {MAX_VALUES} that are read. If that is right, set "
            "MONAI_EXT_MAX_VOXELS to a higher number."
        )


def damaged(path: str | os.PathLike, reason: object) -> ValueError:
    """The error for a file that cannot be read."""
    if isinstance(reason, MemoryError):
        return ValueError(f"monai_ext: {path}: there is not enough memory to read it ({Path(path).name}).")
    lines = str(reason).strip().splitlines()
    text = (lines[-1] if lines else type(reason).__name__)[:300]
    return ValueError(f"monai_ext: {path}: cannot be read ({text}). The file is damaged or cut off; get it again.")
