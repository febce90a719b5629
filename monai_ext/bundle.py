# SPDX-License-Identifier: Apache-2.0
"""Where a bundle of this collection lies."""

from __future__ import annotations

from pathlib import Path

__all__ = ["bundle_root"]

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
