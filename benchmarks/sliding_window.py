# SPDX-License-Identifier: Apache-2.0
"""Windows of a CT volume stitched to a label map: ``SlidingWindowLabelInferer`` and MONAI's ``SlidingWindowInferer``.

    python -m benchmarks.sliding_window             # some minutes on two cores, up to 5 GB
    python -m benchmarks.sliding_window --quick     # a minute, a smaller volume

The network hands out the same logits again and again, so that nearly all time is stitching; what it takes by itself is
measured and taken off. Both routes run alternately in one process, ``--repeats`` times, and their labels must be equal,
voxel by voxel, with a 3x3x3 convolution. Peak memory is that of a process of its own, less what it held before the call
(Linux only).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn as nn
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscrete

from benchmarks.machine import memory_taken
from monai_ext.inferers import SlidingWindowLabelInferer

BATCH, OVERLAP, MODE = 2, 0.5, "gaussian"
Route = Callable[[torch.Tensor, Callable, tuple[int, ...]], torch.Tensor]


def ours(x: torch.Tensor, network: Callable, roi: tuple[int, ...]) -> torch.Tensor:
    return SlidingWindowLabelInferer(roi, BATCH, OVERLAP, MODE)(x, network)[0]


@torch.no_grad()
def monai(x: torch.Tensor, network: Callable, roi: tuple[int, ...]) -> torch.Tensor:
    return AsDiscrete(argmax=True)(SlidingWindowInferer(roi, BATCH, OVERLAP, MODE)(x, network)[0])


@torch.no_grad()
def monai_logits(x: torch.Tensor, network: Callable, roi: tuple[int, ...]) -> torch.Tensor:
    return SlidingWindowInferer(roi, BATCH, OVERLAP, MODE)(x, network)[0]


ROUTES: dict[str, Route] = {
    "SlidingWindowLabelInferer": ours,
    "MONAI: SlidingWindowInferer, AsDiscrete": monai,
    "MONAI: SlidingWindowInferer, logits only": monai_logits,
}


class Ready:
    """Logits without a network: a copy, since MONAI weights them in place; counts its calls and its time."""

    def __init__(self, classes: int, roi: tuple[int, ...]) -> None:
        self.logits = torch.randn(BATCH, classes, *roi, generator=torch.Generator().manual_seed(0))
        self.seconds = 0.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        logits = self.logits[: len(x)].clone()
        self.seconds += time.perf_counter() - start
        return logits


def sizes(quick: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return ((160, 160, 96), (96, 96, 64)) if quick else ((256, 256, 128), (96, 96, 96))


def print_peak(name: str, quick: bool, classes: int) -> None:
    shape, roi = sizes(quick)
    x, network = torch.zeros(1, 1, *shape), Ready(classes, roi)
    print(memory_taken(lambda: ROUTES[name](x, network, roi)))


def peak_memory(name: str, quick: bool, classes: int) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.sliding_window",
        "--peak",
        name,
        "--classes",
        str(classes),
        *(["--quick"] if quick else []),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller volume")
    parser.add_argument("--classes", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.peak:
        print_peak(options.peak, options.quick, options.classes)
        return
    shape, roi = sizes(options.quick)
    x = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    convolution = nn.Conv3d(1, options.classes, 3, padding=1)
    labels = ours(x, convolution, roi)
    different = int((labels != monai(x, convolution, roi).to(labels.dtype)).sum())
    seconds: dict[str, list[float]] = {name: [] for name in ROUTES}
    for _ in range(options.repeats):
        for name, route in ROUTES.items():
            network, start = Ready(options.classes, roi), time.perf_counter()
            route(x, network, roi)
            seconds[name].append(time.perf_counter() - start - network.seconds)
    for text, size in (("voxels", shape), ("windows", roi)):
        print("x".join(map(str, size)), text, end=", ")
    print(
        f"{options.classes} classes, {torch.get_num_threads()} threads; {different} of {labels.numel()} labels differ"
    )
    print(f"{options.repeats} alternating runs: median (minimum-maximum), without the network's time\n")
    print("| route | seconds | memory [MiB] |\n|---|---|---|")
    for name, values in seconds.items():
        memory = peak_memory(name, options.quick, options.classes)
        print(f"| {name} | {np.median(values):.2f} ({min(values):.2f}-{max(values):.2f}) | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
