# SPDX-License-Identifier: Apache-2.0
"""Dice and HD95 of label maps on the device: what their way to the CPU costs."""

from __future__ import annotations

from statistics import median

import numpy as np
import torch

from benchmarks.gpu.job import CLASSES, Job, Row, Steps
from benchmarks.gpu.timing import in_turns
from monai_ext.metrics import label_metrics


def metrics(job: Job) -> Steps:
    shape = (48, 48, 24) if job.tiny else (512, 512, 148)

    def both() -> list[Row]:
        grid = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
        truth = torch.zeros(shape, dtype=torch.uint8)
        for i in range(CLASSES - 1):
            centre = (0.5 * np.cos(i), 0.5 * np.sin(i), 0.1 * i - 0.4)
            truth[sum((axis - c) ** 2 for axis, c in zip(grid, centre)) < 0.04] = i + 1
        here = truth.roll(3, dims=0), truth
        there = tuple(labels.to(job.device) for labels in here)
        options = {"num_classes": CLASSES, "spacing": (0.8, 0.8, 3.0)}
        for values, expected in zip(*(label_metrics(*pair, **options).values() for pair in (there, here))):
            np.testing.assert_array_equal(values, expected)
        steps = {
            "tensors on the CPU": lambda: label_metrics(*here, **options),
            f"tensors on {job.device}": lambda: label_metrics(*there, **options),
        }
        times = in_turns(steps, max(2, job.rounds // 3), job.device)
        return [{"what": f"{'x'.join(map(str, shape))}, {name}", "s": median(times[name])} for name in steps]

    yield "Dice and HD95 of 8 organs", 8, both
