# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from tabulate import tabulate

from monai_ext.bundle import known_bundles

__all__ = ["bundles"]


def bundles() -> None:
    """List the bundles: what each segments, its version, and whether it has a trained model yet."""
    rows = []
    for name, folder in known_bundles().items():
        metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        model = "yes" if (folder / "models" / "model.pt").is_file() else "not yet"
        rows.append([name, metadata["task"], metadata["version"], model])
    if not rows:
        raise FileNotFoundError("monai_ext: no bundles found. Start in the folder that holds bundles/.")
    print(tabulate(rows, ["bundle", "task", "version", "model"], disable_numparse=True))
    print("\nTrain one: python -m monai.bundle run --config_file bundles/NAME/configs/train.json")
