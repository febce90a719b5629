# SPDX-License-Identifier: Apache-2.0
"""What a bundle's config needs before anything else: its own folder, and errors that end in one clear line."""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType

__all__ = ["bundle_root", "end_with_plain_error", "find_bundle", "flag", "known_bundles", "plain_cause"]

_CHECKOUT = Path(__file__).resolve().parents[1]
# what the system says -> what to do; the first that is found in an error's chain counts
_ADVICE = {
    "CUDA out of memory": "the GPU's memory is full. Lower --batch_size or --image_size, or keep --amp true.",
    "DataLoader worker (pid": (  # not "Caught TypeError in DataLoader worker process 0"
        "a worker process was ended by the system, for lack of memory most often. Lower --num_workers or --cache_rate, "
        "and go on with --resume true."
    ),
    "No space left on device": "the disk is full. Make room, and go on with --resume true.",
    "Stale file handle": (
        "the folder of the data went away (a network share?). Bring it back, and go on with --resume true."
    ),
}


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


def flag(value: bool | int | str | None) -> bool:
    """A switch as the command line gives it: MONAI's hands on ``--amp false`` as a text, which counts as true.

    Raises:
        ValueError: for anything but true and false, yes and no, 1 and 0.

    Examples::

        >>> flag("false")
        False
    """
    text = str(value).lower()
    if text in ("true", "yes", "1"):
        return True
    if text in ("false", "no", "0", "none"):
        return False
    raise ValueError(f"monai_ext: {value!r}: expected true or false.")


def known_bundles() -> dict[str, Path]:
    """Name -> folder of the bundles below the current folder and of those that this library came with."""
    found: dict[str, Path] = {}
    for base in (Path("bundles"), _CHECKOUT / "bundles"):
        for metadata in sorted(base.glob("*/configs/metadata.json")):
            found.setdefault(metadata.parents[1].name, metadata.parents[1])
    return found


def find_bundle(name: str | os.PathLike) -> Path:
    """The folder of a bundle given by its name or as a folder.

    Raises:
        FileNotFoundError: if there is none; names the nearest that is known.
    """
    if os.path.isfile(Path(name) / "configs" / "metadata.json"):  # False for a name that cannot be one, too
        return Path(name)
    known = known_bundles()
    if str(name) in known:
        return known[str(name)]
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise FileNotFoundError(
        f"monai_ext: no bundle {str(name)!r}: neither a folder with configs/metadata.json nor one of "
        f"{', '.join(known) or 'the bundles folder, which was not found'}.{hint}"
    )


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
