# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a stop in the middle leaves the old file or none, and reading tensors without trust.

What is being written lies in a *scratch folder*, a hidden one beside its place whose owner holds a lock in it. The
system lets go of the lock when the owner ends, however it ends: so anybody can tell what a dead process left from what
a live one is writing, whichever machine it runs on. A process that first writes into a folder clears the dead there.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

__all__ = ["clear_dead", "load_tensors", "locked", "replacing", "scratch_folder"]

LOCK = ".monai_ext.lock"
SCRATCH = ".monai_ext"  # ends the name of a scratch folder
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)  # what some network shares answer
_cleared: set[Path] = set()  # folders whose dead this process has cleared


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
def locked(
    folder: str | os.PathLike,
    name: str = LOCK,
    remedy: str = "Wait until it has ended, or give another folder.",
    wait: bool = False,
) -> Iterator[None]:
    """Hold the lock of a folder, which only one process of all that ask for it has at a time.

    It ends with the block, or with the process, even if that is killed; a worker process does not inherit it. The
    processes of one distributed run are one run: let the first of them ask.

    Args:
        folder: made if need be; the lock is a hidden file in it while it is held.
        name: of that file, if not the whole folder is meant; begins with ``.monai_ext`` and ends in ``.lock``.
        remedy: what to do, said to whom does not get the lock.
        wait: wait for the lock.

    Raises:
        BlockingIOError: if another holds it; says which process on which machine.
        OSError: if the folder cannot be written to.

    Examples::

        >>> with locked("models", remedy="Give another --ckpt_dir."):
        ...     train()
    """
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _acquired(path, timeout=-1 if wait else 0.5)
    if lock is None:
        raise BlockingIOError(f"monai_ext: {folder}: in use by {_holder(path)}. {remedy}")
    try:
        if not isinstance(lock, SoftFileLock):  # which notes its owner itself
            with suppress(OSError):  # Windows lets nobody write to what is locked
                path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: who has opened it meanwhile finds out, and makes another
        lock.release()


def _holder(path: Path) -> str:
    """Who noted itself in a lock file."""
    try:
        pid, host = path.read_text(encoding="utf-8").splitlines()[:2]
    except (OSError, ValueError):
        return "another process"
    return f"process {pid} on {host}"


@contextmanager
def scratch_folder(parent: str | os.PathLike, prefix: str = "") -> Iterator[Path]:
    """Give a new hidden folder in ``parent``, on the disk that its content is meant for; it is removed at the end.

    Where the process is killed before, :func:`clear_dead` removes it.

    Args:
        parent: made if need be.
        prefix: what the folder's name begins with, after a dot.

    Examples::

        >>> with scratch_folder("labels", "segment-") as scratch:
        ...     (scratch / "a.nii.gz").write_bytes(voxels)
        ...     (scratch / "a.nii.gz").replace("labels/a.nii.gz")
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    if (place := parent.resolve()) not in _cleared:
        _cleared.add(place)
        clear_dead(parent)
    lock = None
    while lock is None:  # one that is made but not locked yet may be taken for dead
        folder = Path(tempfile.mkdtemp(prefix=f".{prefix}", suffix=SCRATCH, dir=parent))
        with suppress(FileNotFoundError, FileExistsError):  # it went away, or is going
            lock = _acquired(folder / LOCK)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def clear_dead(folder: str | os.PathLike) -> None:
    """Remove what writers that are dead left in a folder: unfinished files, scratch folders, locks.

    Nothing of a live process is touched, wherever it runs. On network shares without locks, that is what has a live
    process or one on another machine.

    Args:
        folder: looked at without its subfolders; it may be missing.
    """
    try:
        hidden = [path for path in Path(folder).iterdir() if path.name.startswith(".")]
    except OSError:
        return
    for path in hidden:
        scratch = path.suffix == SCRATCH and path.is_dir() and not path.is_symlink()
        if not scratch and not (path.name.startswith(Path(LOCK).stem) and path.suffix == ".lock"):
            continue
        with suppress(OSError):  # of another user, or cleared by another process
            lock = _acquired(path / LOCK if scratch else path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True) if scratch else path.unlink(missing_ok=True)
                lock.release()


def _acquired(path: Path, timeout: float = 0.0) -> FileLock | SoftFileLock | None:
    """The lock at ``path``, now held; None if another has it."""
    lock: FileLock | SoftFileLock = FileLock(path, timeout=timeout, thread_local=False)
    try:
        try:
            lock.acquire()
        except OSError as e:
            if e.errno not in NO_LOCKS:
                raise
            if path.stat().st_size == 0:  # of this attempt: a soft lock names its owner
                path.unlink()
            lock = SoftFileLock(path, timeout=timeout, thread_local=False)
            lock.acquire()
    except Timeout:
        return None
    return lock


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to, on the same disk as ``path``; on success it becomes ``path``, else it goes.

    The temporary name keeps every suffix (``.nii.gz``), since writers choose the format by it. The bytes are on the
    disk before the rename, so a power cut cannot leave an empty file under the final name.

    Examples::

        >>> with replacing("metrics.csv") as temporary:
        ...     temporary.write_text("case,dice\\n")
    """
    path = Path(path)
    with scratch_folder(path.parent) as folder:
        temporary = folder / f".{path.name}"
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as e:
            if e.errno and (e.filename is None or str(e.filename) == str(temporary)):
                e.filename, e.filename2 = str(path), None  # the user's file: writing often names none at all
            raise
