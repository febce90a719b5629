# SPDX-License-Identifier: Apache-2.0
"""What a bundle's config needs before anything else: its own folder, and errors that end in one clear line."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

# configs name these here
from monai_ext.utils.errors import end_with_plain_error, plain_cause
from monai_ext.utils.switches import flag

__all__ = ["bundle_root", "end_with_plain_error", "find_bundle", "flag", "known_bundles", "plain_cause"]

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
