# SPDX-License-Identifier: Apache-2.0
"""A network whose labels are known by hand: it compares one of four channels with a threshold for each region."""

from __future__ import annotations

import json
from pathlib import Path

import torch

LOOKED_AT = 2  # the channel that it sees
THRESHOLDS = (0.3, 0.5, 0.8)


def give_thresholds(folder: Path) -> dict[str, torch.Tensor]:
    """Put it into a bundle, at the size of the slices; returns its weights, which are the bundle's."""
    for name in ("train", "inference"):
        file = folder / "configs" / f"{name}.json"
        config = json.loads(file.read_text())
        config["network_def"] = {
            "_target_": "monai.networks.blocks.Convolution",
            "spatial_dims": 2,
            "in_channels": 4,
            "out_channels": 3,
            "kernel_size": 1,
            "conv_only": True,
        }
        config |= {"image_size": None, "spacing": None}
        file.write_text(json.dumps(config))
    weight = torch.zeros(3, 4, 1, 1)
    weight[:, LOOKED_AT] = 50
    weights = {"conv.weight": weight, "conv.bias": -50 * torch.tensor(THRESHOLDS)}
    (folder / "models").mkdir(exist_ok=True)
    torch.save(weights, folder / "models" / "model.pt")
    return weights
