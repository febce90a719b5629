# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tabulate import tabulate

from monai_ext.bundle import known_bundles
from monai_ext.utils import read_json

__all__ = ["bundles"]


def bundles() -> None:
    """List the bundles: what each segments, its version, and whether it has a trained model yet."""
    rows = []
    for name, folder in known_bundles().items():
        file = folder / "configs" / "metadata.json"
        metadata = read_json(file, "metadata")
        if not isinstance(metadata, dict) or not {"task", "version"} <= metadata.keys():
            raise ValueError(f"monai_ext: {file}: no metadata of a bundle (task and version expected).")
        model = "yes" if (folder / "models" / "model.pt").is_file() else "not yet"
        rows.append([name, metadata["task"], metadata["version"], model])
    if not rows:
        raise FileNotFoundError("monai_ext: no bundles found. Start in the folder that holds bundles/.")
    print(tabulate(rows, ["bundle", "task", "version", "model"], disable_numparse=True))
    print("\nTrain one: python -m monai.bundle run --config_file bundles/NAME/configs/train.json")
