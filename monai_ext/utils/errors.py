# SPDX-License-Identifier: Apache-2.0
"""Errors that end in one clear line: which of a chain's messages a user has to read, and advice on the system's own."""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType

__all__ = ["end_with_plain_error", "plain_cause"]

# what the system says -> what to do; the first that is found in an error's chain counts
_ADVICE = {
    "CUDA out of memory": "the GPU's memory is full. Lower --batch_size or --image_size, or keep --amp true.",
    "DataLoader worker": (
        "a worker process was ended by the system, for lack of memory most often. Lower --num_workers or --cache_rate, "
        "and go on with --resume true."
    ),
    "No space left on device": "the disk is full. Make room, and go on with --resume true.",
    "Stale file handle": (
        "the folder of the data went away (a network share?). Bring it back, and go on with --resume true."
    ),
}


def end_with_plain_error() -> None:
    """Make the last line of a failed run the cause in plain words, when the cause is one of this library's errors.

    MONAI wraps an error once for each level of a config, so what a user has to read ends up in the middle of a long
    traceback. A bundle calls this in ``initialize``; the traceback stays as it is, the cause is repeated below it.
    """
    if sys.excepthook is not _traceback_then_cause:
        sys.excepthook = _traceback_then_cause


def plain_cause(error: BaseException) -> str | None:
    """The innermost message of this library in an error's chain, or advice on one of the system's; None if neither."""
    lines = "".join(traceback.format_exception(error))
    causes = re.findall(r"^[\w.]*(?:Error|Exception): (monai_ext: .*)$", lines, re.MULTILINE)
    if causes:
        return causes[0]  # the innermost comes first
    return next((f"monai_ext: {advice}" for sign, advice in _ADVICE.items() if sign in lines), None)


def _traceback_then_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = plain_cause(error)
    links: list[BaseException] = [error]
    while following := links[-1].__cause__ or links[-1].__context__:
        links.append(following)
    # an error that says all itself has no use for the places it came through
    if not cause or all(getattr(link, "traceback_helps", True) for link in links):
        sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
    if cause:
        sys.stderr.write(f"\n{cause}\n")
