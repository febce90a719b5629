# SPDX-License-Identifier: Apache-2.0
"""Pictures of discs with a core in nnU-Net's layout, and a network whose labels of them are known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE = 128
RED = {0: 20, 1: 120, 2: 220, 3: 220}  # what is ignored looks like a core
TEMPLATE = "doubleunet_dca_kvasir"


def write_pictures(folder: Path, labels: dict, cases: int = 9, shape: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Discs with a core, beside them a stripe that nobody has looked at; in case 0 nobody has looked at anything."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for case in range(cases):
        middle = rng.integers(45, 80, 2)
        distance = np.hypot(rows - middle[0], columns - middle[1])
        label = np.where(distance < 14, 2, np.where(distance < 32, 1, 0)).astype(np.uint8)
        label[: int(rng.integers(8, 16))] = 3
        picture = np.full((*shape, 3), 60, np.uint8)
        picture[..., 0] = np.vectorize(RED.get)(label)
        if case == 0:
            label[:] = 3
        part = "Ts" if case >= cases - 2 else "Tr"
        for place, values in (
            (f"images{part}/p_{case:02d}_0000.png", picture),
            (f"labels{part}/p_{case:02d}.png", label),
        ):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / place)
    (folder / "dataset.json").write_text(json.dumps({
        "channel_names": {"0": "R", "1": "G", "2": "B"}, "file_ending": ".png", "numTraining": cases - 2, **labels
    }))  # fmt: skip
    return folder


REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, "regions_class_order": [1, 2]}
CLASSES = {"labels": {"background": 0, "rim": 1, "core": 2, "ignore": 3}}


def give_thresholds(bundle: Path, rows: list[list[float]], bias: list[float]) -> None:
    """A network that looks at red alone: its labels are known by hand."""
    for name in ("train", "inference"):
        file = bundle / "configs" / f"{name}.json"
        config = json.loads(file.read_text())
        config["network_def"] = {
            "_target_": "monai.networks.blocks.Convolution", "spatial_dims": 2, "in_channels": 3,
            "out_channels": len(bias), "kernel_size": 1, "conv_only": True,
        }  # fmt: skip
        file.write_text(json.dumps(config))
    (bundle / "models").mkdir(exist_ok=True)
    weights = {"conv.weight": torch.tensor(rows)[..., None, None], "conv.bias": torch.tensor(bias)}
    torch.save(weights, bundle / "models" / "model.pt")


def seen_label(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def by_hand(file: Path) -> np.ndarray:
    red = np.asarray(Image.open(file))[..., 0]
    return np.where(red > 170, 2, np.where(red > 70, 1, 0)).astype(np.uint8)
