# SPDX-License-Identifier: Apache-2.0
"""The folder that MONAI Label serves: links to the bundles, and weights of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_ext.bundle import Bundle
from monai_ext.utils import replacing

__all__ = ["chosen_bundles", "prepare_app"]

# Label looks for a class in main.py; everything else is in the library
MAIN = """\
from monai_ext.apps.label.compat import prepare_imports

prepare_imports()

from monai_ext.apps.label.app import BundleApp  # noqa: E402, F401
"""


def chosen_bundles(bundles: str | Sequence[str] | None = None) -> dict[str, Bundle]:
    """Name -> bundle, every one of them with weights.

    Args:
        bundles: names or folders, separated by commas or in a list; None means all known ones that have weights.

    Raises:
        FileNotFoundError: if one is not there, or has no weights.
        ValueError: if none is named, or two have one name.
    """
    if bundles is None:
        found = {name: bundle for name, bundle in Bundle.known().items() if bundle.weights.is_file()}
        if not found:
            raise FileNotFoundError(
                "monai_ext: no known bundle has weights (models/model.pt). Train one first, or name a folder with "
                "--bundles."
            )
        return found
    names = bundles.split(",") if isinstance(bundles, str) else [str(part) for part in bundles]
    found = {}
    for bundle in (Bundle.find(name.strip()) for name in names if name.strip()):
        bundle.require_weights()
        if bundle.name in found:
            raise ValueError(
                f"monai_ext: --bundles: {found[bundle.name].folder} and {bundle.folder} have one name. Serve one."
            )
        found[bundle.name] = bundle
    if not found:
        raise ValueError("monai_ext: --bundles names no bundle.")
    return found


def prepare_app(app: Path, bundles: Mapping[str, Bundle]) -> None:
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
        for config in sorted((bundle.folder / "configs").iterdir()):
            os.symlink(config.resolve(), served / "configs" / config.name)
        weights = served / "models" / "model.pt"
        if not weights.is_file():
            with replacing(weights) as temporary:
                shutil.copyfile(bundle.require_weights(), temporary)
