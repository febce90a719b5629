# SPDX-License-Identifier: Apache-2.0
"""Errors that end in one clear line: which of a chain's messages a user has to read, and advice on the system's own.

A message of this library begins with ``monai_ext: ``. It is found wherever it went through: MONAI's configs, ``raise
... from``, a worker process. What the system says (disk, memory, permissions) becomes such a line here, with options
that the command at hand has.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

__all__ = ["config_errors", "end_with_plain_error", "ends_all", "innermost", "plain_cause"]

OURS = re.compile(r"^[\w.]*(?:Error|Exception): (monai_ext: .*)$", re.MULTILINE)
# as Python prints an OSError, in a worker process too: number, words, and mostly a path
SYSTEM = re.compile(
    r"^[\w.]*(?:Error|Exception): \[Errno (\d+)\] [^:\n]*(?:: (['\"])(.*?)\2(?: -> .*)?)?$", re.MULTILINE
)

# what to do then, in the words of the command's own options; None: a command that is not known
_AGAIN = {
    None: "and start again",
    "training": "and go on with --resume true",
    "segment": "and start again: finished labels are kept",
}
_MEMORY: dict[str | None, str] = {
    None: "Use fewer workers or smaller batches.",
    "training": "Lower --num_workers, --cache_rate or --batch_size, and go on with --resume true.",
    **dict.fromkeys(("evaluation", "inference", "segment"), "Give --num_workers 0."),
    "deploy": "End other programs, or use a machine with more.",
}
_GPU_MEMORY: dict[str | None, str] = {
    None: "Use smaller batches, mixed precision or the CPU.",
    "training": "Lower --batch_size or --image_size, or keep --amp true.",
    **dict.fromkeys(("evaluation", "inference", "segment"), "Keep --amp true, or give --device cpu."),
    "deploy": "End other programs on it, or hide it (CUDA_VISIBLE_DEVICES=-1), which takes the CPU.",
}
_NO_WORKERS: dict[str | None, str] = {
    None: "use no workers",
    **dict.fromkeys(("training", "evaluation", "inference", "segment"), "give --num_workers 0"),
    "deploy": "end other programs",
}
_ROOM, _WAY = "Make room, {again}.", "Put that right, or give another place, {again}."
_ERRNO = {
    errno.ENOSPC: ("no space is left on its disk", _ROOM),
    errno.EDQUOT: ("your quota of disk space is used up", _ROOM),
    errno.EFBIG: ("larger than its disk or a limit of the system allows", _WAY),
    errno.EROFS: ("lies on a disk that can be read only", "Give another place, {again}."),
    errno.EACCES: ("permission denied", _WAY),
    errno.EPERM: ("permission denied", _WAY),
    errno.EIO: ("its disk or network share failed (input/output error)", "See to it, {again}."),
    errno.ESTALE: ("its folder went away (a network share?)", "Bring it back, {again}."),
    errno.EMFILE: ("too many files are open", "Raise the limit (ulimit -n), or {no_workers}, {again}."),
    errno.ENFILE: ("too many files are open", "Raise the limit of the system, or {no_workers}, {again}."),
    errno.ENOMEM: ("the memory is full", "{memory}"),
    errno.ENAMETOOLONG: ("its name is too long for its disk", "Shorten it, {again}."),
    errno.EISDIR: ("is a folder, expected a file", _WAY),
    errno.ENOTDIR: ("a part of its path is a file, expected folders", _WAY),
    errno.ETIMEDOUT: ("its network share does not answer", "See to it, {again}."),
}
# the same of those that say it in words alone; the first that is found counts
_SAID = {
    r"No usable temporary directory": (
        f"no room for temporary files in {os.environ.get('TMPDIR', tempfile.gettempdir())}. "
        "Make room, or set TMPDIR to a folder that has some, {again}."
    ),
    r"CUDA out of memory": "the GPU's memory is full. {gpu_memory}",
    r"out of shared memory|allocate shared memory|Bus error|</torch_|/dev/shm": (
        "the memory that workers share (/dev/shm) is too small, in a container most often. Start the container with "
        "more (docker run --shm-size 2g), or {no_workers}, {again}."
    ),
    r"DataLoader worker.*(?:killed|exited)": (
        "a worker process was ended by the system, for lack of memory most often. {memory}"
    ),
    r"ancdata|Too many open files": ("too many files are open. Raise the limit (ulimit -n), or {no_workers}, {again}."),
    r"MemoryError|can't allocate memory|not enough memory|Unable to allocate|bad_alloc|Cannot allocate memory": (
        "the memory is full. {memory}"
    ),
    r"No space left on device|PytorchStreamWriter failed|file write failed|requested and \d+ written": (
        "a file could not be written to its end: the disk is full. Make room, {again}."
    ),
    r"Stale file handle": "the folder of the data went away (a network share?). Bring it back, {again}.",
}

_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}

_command: str | None = None  # that end_with_plain_error was told of


def end_with_plain_error(command: str | None = None) -> None:
    """Make the last line of a failed run the cause in plain words, when the cause is one of this library's errors.

    MONAI wraps an error once for each level of a config, so what a user has to read ends up in the middle of a long
    traceback. A bundle calls this in ``initialize``; the traceback stays as it is, the cause is repeated below it.

    Args:
        command: ``"training"``, ``"evaluation"``, ``"inference"``, ``"segment"`` or ``"deploy"``, whose options advice
            may name.
    """
    global _command
    _command = command
    if sys.excepthook is not _traceback_then_cause:
        sys.excepthook = _traceback_then_cause


def plain_cause(error: BaseException, command: str | None = None) -> str | None:
    """The innermost message of this library in an error's chain, or advice on one of the system's; None if neither.

    Args:
        error: with its chain of causes.
        command: as for :func:`end_with_plain_error`.
    """
    lines = "".join(traceback.format_exception(error))
    if ours := OURS.search(lines):
        return ours[1]  # the innermost comes first
    words = {
        "again": _AGAIN.get(command, _AGAIN[None]),
        "memory": _MEMORY.get(command, _MEMORY[None]),
        "gpu_memory": _GPU_MEMORY.get(command, _GPU_MEMORY[None]),
        "no_workers": _NO_WORKERS.get(command, _NO_WORKERS[None]),
    }
    # the outermost: one within may have been dealt with
    for number, _, path in reversed(SYSTEM.findall(lines)):
        if int(number) in _ERRNO and not path.startswith("/dev/shm"):
            what, remedy = _ERRNO[int(number)]
            temporary = path.startswith(os.path.join(tempfile.gettempdir(), "tmp"))
            other = " TMPDIR names another folder for temporary files." if temporary else ""
            return f"monai_ext: {path or 'a file of this run'}: {what}. {remedy.format(**words)}{other}"
    return next(
        (f"monai_ext: {advice.format(**words)}" for sign, advice in _SAID.items() if re.search(sign, lines)), None
    )


def ends_all(error: BaseException) -> bool:
    """Whether an error in writing is one that each next file would meet too: a full disk, one that went away."""
    lines = "".join(traceback.format_exception(error))
    return any(int(number) in _HOPELESS for number, _, _ in SYSTEM.findall(lines))


@contextmanager
def config_errors(file: str | os.PathLike, command: str | None = None) -> Iterator[None]:
    """Turn what MONAI raises from deep within a run into one ValueError that names the config and the first cause.

    Errors with a message of this library are left as they are, the system's become one.

    Args:
        file: the config.
        command: as for :func:`end_with_plain_error`.

    Raises:
        ValueError: says what is wrong in one line.

    Examples::

        >>> with config_errors("bundles/mine/configs/inference.json"):
        ...     workflow.run()
    """
    try:
        yield
    except Exception as e:
        if cause := plain_cause(e, command):
            if OURS.search("".join(traceback.format_exception(e))):
                raise
            raise ValueError(cause) from e
        first = innermost(e)
        reason = (str(first).strip().splitlines() or [""])[0][:300]
        raise ValueError(f"monai_ext: {file}: does not work as a config ({type(first).__name__}: {reason}).") from e


def innermost(error: BaseException) -> BaseException:
    """Return the error that others were raised ``from``: what wraps it says where, not what.

    One that was merely being handled when another was raised is left alone: a ``StopIteration`` that became "no such
    package" says nothing.

    Examples::

        >>> try:
        ...     raise RuntimeError("reading failed") from OSError("disk gone")
        ... except RuntimeError as e:
        ...     innermost(e)
        OSError('disk gone')
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _traceback_then_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = plain_cause(error, _command)
    links: list[BaseException] = [error]
    while following := links[-1].__cause__ or links[-1].__context__:
        links.append(following)
    # an error that says all itself has no use for the places it came through
    if not cause or all(getattr(link, "traceback_helps", True) for link in links):
        sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
    if cause:
        sys.stderr.write(f"\n{cause}\n")
