# SPDX-License-Identifier: Apache-2.0
"""What a bundle's config needs before anything else: its own folder, and errors that end in one clear line."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from types import TracebackType

__all__ = ["bundle_root", "end_with_plain_error"]

_CHECKOUT = Path(__file__).resolve().parents[1]


def bundle_root(name: str) -> str:
    """The folder of bundle ``name``, from the repository root, from inside the bundle, or from an editable install.

    A bundle's config calls this for its ``bundle_root``, so that
    ``python -m monai.bundle run --config_file .../train.json`` works from any of these folders;
    ``--bundle_root DIR`` on the command line wins over it.

    Args:
        name: the bundle's folder name, such as ``"dcaunet_synapse"``.

    Raises:
        FileNotFoundError: if none of the known places holds ``configs/metadata.json`` of that bundle.

    Examples::

        >>> bundle_root("dcaunet_synapse")  # in the repository root
        'bundles/dcaunet_synapse'
    """
    here = Path.cwd()
    places = [Path("bundles") / name, _CHECKOUT / "bundles" / name]
    if here.name == name:
        places.insert(0, Path("."))
    for place in places:
        if (place / "configs" / "metadata.json").is_file():
            return str(place)
    raise FileNotFoundError(
        f"monai_ext: bundle {name!r} found neither in {here}, {here / 'bundles'} nor {_CHECKOUT / 'bundles'}. "
        "Give its folder with --bundle_root."
    )


def end_with_plain_error() -> None:
    """Make the last line of a failed run the cause in plain words, when the cause is one of this library's errors.

    MONAI wraps an error once for each level of a config, so what a user has to read ends up in the middle of a long
    traceback. A bundle calls this in ``initialize``; the traceback stays as it is, the cause is repeated below it.
    """
    if sys.excepthook is not _traceback_then_cause:
        sys.excepthook = _traceback_then_cause


def _traceback_then_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    lines = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(lines)
    if causes := re.findall(r"^\w*(?:Error|Exception): (monai_ext: .*)$", lines, re.MULTILINE):
        sys.stderr.write(f"\n{causes[0]}\n")  # the innermost comes first
