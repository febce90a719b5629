# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_ext.bundle import bundle_root

__all__ = ["bundle_folders"]

_CHECKOUT = Path(__file__).resolve().parents[2] / "bundles"


def bundle_folders(bundles: str | Sequence[str] | None = None) -> dict[str, Path]:
    """Name -> folder of each bundle, every one of them with weights.

    Args:
        bundles: names of this collection's bundles, or folders, separated by commas or in a list; None means all of
            this collection that have weights.

    Raises:
        FileNotFoundError: if one is not there, or has no ``models/model.pt``; says where it was looked for.
    """
    if bundles is None:
        every = sorted(path.parents[1] for path in _CHECKOUT.glob("*/configs/inference.json"))
        found = {path.name: path for path in every if (path / "models" / "model.pt").is_file()}
        if not found:
            raise FileNotFoundError(
                f"monai_ext: no bundle in {_CHECKOUT} has weights (models/model.pt). Train one first, or name a folder "
                "with --bundles."
            )
        return found
    names = bundles.split(",") if isinstance(bundles, str) else list(bundles)
    found = {}
    for name in filter(None, (str(part).strip() for part in names)):
        folder = Path(name).expanduser()
        if not (folder / "configs" / "inference.json").is_file():
            folder = Path(bundle_root(name))
        weights = folder / "models" / "model.pt"
        if not weights.is_file():
            raise FileNotFoundError(f"monai_ext: bundle {name}: no weights at {weights}. Train it first.")
        found[folder.resolve().name] = folder.resolve()
    if not found:
        raise ValueError("monai_ext: --bundles names no bundle.")
    return found
