# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a stop in the middle leaves the old file or none, never half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing"]


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
