# SPDX-License-Identifier: Apache-2.0
"""What a file says of itself, held against its size before anything is unpacked or reserved for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

__all__ = ["MAX_VALUES", "check_promise", "damaged", "is_note", "require_file", "stranger", "unusable"]

MAX_VALUES = int(os.environ.get("MONAI_EXT_MAX_VOXELS", 2**30))  # 512 x 512 x 4096: longer than any patient
DEFLATE_LIMIT = 1032  # no deflate stream (gzip, zip, png) becomes longer than this times its size
# what is found under the names of images, by its first bytes: none of it is damaged
STRANGERS = {
    b"\0\5\x16\7": "is a note of macOS about the file beside it, no image. Delete it (dot_clean), or leave it out",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself. Get that with git lfs pull",
    b"<!DOCTYPE": "is a web page, not the file. Download it again, signed in where that is asked for",
    b"RIFF": "is a WebP picture by its content. Save it as PNG",
    b"GIF8": "is a GIF picture by its content. Save it as PNG",
    b"<html": "is a web page, not the file. Download it again, signed in where that is asked for",
    b"\0\0\0\x0cjP  ": "is a JPEG 2000 picture by its content. Save it as PNG",
    b"\xff\x4f\xff\x51": "is a JPEG 2000 picture by its content. Save it as PNG",
    b"8BPS": "is a Photoshop picture by its content. Save it as PNG",
    b"%PDF": "is a PDF by its content. Save the picture in it as PNG",
    b"PK\3\4": "is a zip archive by its content. Unpack it",
}
# the same of what has its mark further in: offset, mark
STRANGERS_WITHIN = {
    (128, b"DICM"): "is a DICOM file by its content. Give its folder to a bundle of volumes, or save it as PNG",
    (4, b"ftyp"): "is an HEIF or AVIF picture by its content. Save it as PNG",
}


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


def is_note(name: str | os.PathLike) -> bool:
    """Whether a file is what macOS keeps beside one on other file systems (``._scan.nii.gz``), by its name."""
    return os.path.basename(os.fspath(name)).startswith("._")


def stranger(path: str | os.PathLike, own: bytes = b"") -> str | None:
    """What a file is that has the name of an image only; None where it may be one, as with the mark of its own kind."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return None
    for (at, mark), text in STRANGERS_WITHIN.items():
        if start[at:].startswith(mark):
            return None if mark == own else text
    return next((text for mark, text in STRANGERS.items() if start.startswith(mark)), None)


def unusable(path: str | os.PathLike, found: str, remedy: str) -> ValueError:
    """The error for a sound file of a kind that is not read."""
    return ValueError(f"monai_ext: {path}: {found}. {remedy}")


def damaged(path: str | os.PathLike, reason: object, own: bytes = b"") -> ValueError:
    """The error for a file that cannot be read, or is none of the kind that its name says; see :func:`stranger`."""
    if isinstance(reason, MemoryError):
        return ValueError(f"monai_ext: {path}: there is not enough memory to read it ({Path(path).name}).")
    if text := stranger(path, own):
        return ValueError(f"monai_ext: {path}: {text}.")
    lines = str(reason).strip().splitlines()
    text = (lines[-1] if lines else type(reason).__name__)[:300]
    return ValueError(f"monai_ext: {path}: cannot be read ({text}). The file is damaged or cut off; get it again.")
