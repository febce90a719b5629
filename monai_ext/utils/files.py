# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a stop in the middle leaves the old file or none, and reading tensors without trust."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["load_tensors", "replacing"]


def load_tensors(path: str | os.PathLike, mmap: bool = False) -> Any:
    """What ``torch.save`` wrote, on the CPU: tensors and plain values only, so that loading runs no code.

    PyTorch checks neither length nor content of the tensors in a file; their checksums are compared here.

    Args:
        path: the file.
        mmap: leave tensors in the file until they are used; checksums are not compared then. Files older than
            PyTorch 1.6 are read at once all the same.

    Raises:
        ValueError: if it is damaged, or holds anything else.
    """
    import torch

    try:
        archive = zipfile.is_zipfile(path)
        if archive and not mmap:
            with zipfile.ZipFile(path) as parts:
                if (damaged := parts.testzip()) is not None:
                    raise ValueError(f"checksum of {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and archive)
    except Exception as e:  # a damaged pickle may raise anything
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise ValueError(f"monai_ext: {path}: no PyTorch file of plain tensors, or damaged ({reason}).") from e


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; on success it becomes ``path``, on an error it is removed.

    The temporary name keeps every suffix (``.nii.gz``), since writers choose the format by it. The bytes are on the
    disk before the rename, so a power cut cannot leave an empty file under the final name.

    Examples::

        >>> with replacing("metrics.csv") as temporary:
        ...     temporary.write_text("case,dice\\n")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=f".{path.name}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; the final one has the user's usual mode
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
