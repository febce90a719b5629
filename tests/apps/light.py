# SPDX-License-Identifier: Apache-2.0
"""A template for new bundles whose network, of 2D and 3D, has a few channels: trained and exported in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.bundles.runs import ROOT


def light_template(folder: Path) -> Path:
    """``unet_dca_synapse`` with 8, 16 and 32 channels, in ``folder``."""
    shutil.copytree(ROOT / "bundles" / "unet_dca_synapse", folder)
    for name in ("train", "inference"):
        file = folder / "configs" / f"{name}.json"
        config = json.loads(file.read_text())
        config["network_def"]["features"] = [8, 16, 32]
        file.write_text(json.dumps(config))
    return folder
