# SPDX-License-Identifier: Apache-2.0
"""The folder that MONAI Label serves: links to the bundles, and weights of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_ext.bundle import bundle_root
from monai_ext.utils import replacing

__all__ = ["bundle_folders", "prepare_app"]

_CHECKOUT = Path(__file__).resolve().parents[3] / "bundles"
# Label looks for a class in main.py; everything else is in the library
MAIN = """\
from monai_ext.apps.label.compat import prepare_imports

prepare_imports()

from monai_ext.apps.label.app import BundleApp  # noqa: E402, F401
"""


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


def prepare_app(app: Path, bundles: Mapping[str, Path]) -> None:
    """Make, or bring up to date, the folder for ``monailabel start_server --app``.

    Configs are links, so a bundle that changes is served as it is. Weights are copied once: fine-tuning changes the
    copy, ``model/NAME/models/model.pt``, and never the bundle. A copy that was made stays, as it may hold what
    annotators taught it; delete it to start again from the bundle's.
    """
    for folder in (app / "model", app / "lib", app / "logs", app / "bin"):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(app / "main.py") as temporary:
        temporary.write_text(MAIN, encoding="utf-8")
    for served in (app / "model").iterdir():
        if served.name not in bundles:  # weights stay for the next time, but without configs it is not served
            shutil.rmtree(served / "configs", ignore_errors=True)
    for name, bundle in bundles.items():
        served = app / "model" / name
        shutil.rmtree(served / "configs", ignore_errors=True)
        (served / "configs").mkdir(parents=True)
        for config in sorted((bundle / "configs").iterdir()):
            os.symlink(config.resolve(), served / "configs" / config.name)
        weights = served / "models" / "model.pt"
        if not weights.is_file():
            with replacing(weights) as temporary:
                shutil.copyfile(bundle / "models" / "model.pt", temporary)
