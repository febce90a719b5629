# SPDX-License-Identifier: Apache-2.0
"""Where bundles lie, and where what they make goes."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

__all__ = ["METADATA", "collection", "folder_for", "is_bundle", "root_of"]

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]
METADATA = ("configs", "metadata.json")


def is_bundle(folder: Path) -> bool:
    return os.path.isfile(folder.joinpath(*METADATA))  # False for a name that cannot be one, too


def collection() -> Path:
    """Where the bundles of this collection are: inside the installed package, or in the checkout beside it."""
    installed = _PACKAGE / "bundles"
    return installed if installed.is_dir() else _PACKAGE.parent / "bundles"


def folder_for(root: str | os.PathLike, part: str, reading: bool = False) -> str:
    """Where a bundle keeps a part of its results: its own folder, or the user's where that is not to be written to.

    Nothing is written into an installed package, or into a folder that the user may not write to: what such a bundle
    makes lies in ``$XDG_DATA_HOME/monai_ext`` (``~/.local/share/monai_ext``), and the log says so.

    Args:
        root: the bundle's folder.
        part: ``"models"`` or ``"eval"``.
        reading: what is only read is taken from the bundle itself, unless the user's folder has it.

    Examples::

        >>> folder_for("bundles/dcaunet_synapse", "models")
        'bundles/dcaunet_synapse/models'
    """
    own = Path(root) / part
    absolute = Path(root).resolve()
    installed = absolute.is_relative_to(_PACKAGE)
    place = own if own.is_dir() else Path(root)
    if not absolute.is_dir() or (not installed and os.access(place, os.W_OK)):
        return f"{os.fspath(root)}/{part}"
    # two bundles of one name, in two places, share nothing
    name = absolute.name if installed else f"{absolute.name}-{hashlib.sha256(os.fsencode(absolute)).hexdigest()[:8]}"
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    user = home / "monai_ext" / name / part
    if reading and own.is_dir() and not user.is_dir():
        return f"{os.fspath(root)}/{part}"
    if not reading:
        logger.warning("monai_ext: %s is not written to; its %s folder is %s.", root, part, user)
    return str(user)


def root_of(configs: Path) -> Path | None:
    """The bundle that a folder of configs belongs to."""
    if configs.absolute().name != "configs":
        return None
    root = configs.parent if configs.name == "configs" else configs / ".."
    return root if is_bundle(root) else None
