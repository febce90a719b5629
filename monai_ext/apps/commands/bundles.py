# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tabulate import tabulate

from monai_ext.bundle import Bundle

__all__ = ["bundles"]


def bundles() -> None:
    """List the bundles: what each segments, its version, and whether it has a trained model yet."""
    rows = [
        [name, bundle.metadata["task"], bundle.metadata["version"], "yes" if bundle.weights.is_file() else "not yet"]
        for name, bundle in Bundle.known().items()
    ]
    if not rows:
        raise FileNotFoundError("monai_ext: no bundles found. Start in the folder that holds bundles/.")
    print(tabulate(rows, ["bundle", "task", "version", "model"], disable_numparse=True))
    print("\nTrain one: python -m monai.bundle run --config_file bundles/NAME/configs/train.json")
