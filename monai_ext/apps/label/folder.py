# SPDX-License-Identifier: Apache-2.0
"""The folder that MONAI Label serves: links to the bundles, and weights of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from monai_ext.utils import replacing

__all__ = ["prepare_app"]

# Label looks for a class in main.py; everything else is in the library
MAIN = """\
from monai_ext.apps.label.compat import prepare_imports

prepare_imports()

from monai_ext.apps.label.app import BundleApp  # noqa: E402, F401
"""


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
