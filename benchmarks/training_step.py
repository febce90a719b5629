# SPDX-License-Identifier: Apache-2.0
"""A training step on a processor in float32 and in bfloat16: what ``precision`` of ``train.json`` gains.

    python -m benchmarks.training_step [--network DCAUNet ...] [--size 224] [--batch 8] [--rounds 5] [--threads 1]

Forward pass by ``TrainingInferer``, loss, backward pass and AdamW; each side trains a network of its own from the same
weights, in turn in one process, and a round gives one ratio. The processor's seconds count on a machine that does other
work, seconds on an idle one. Where the processor does not compute in bfloat16, both sides are float32.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn as nn
from monai.losses import DiceCELoss

from benchmarks.learning import CLASSES, COLOUR, build
from benchmarks.machine import cpu_model
from monai_ext.inferers import TrainingInferer
from monai_ext.losses import MutationLoss
from monai_ext.networks.backends import has_bfloat16

SIDES = ("float32", "bfloat16")
CLOCKS: dict[str, Callable[[], float]] = {"s": time.perf_counter, "s of the processor": time.process_time}


def stepper(network: nn.Module, precision: str, x: torch.Tensor, y: torch.Tensor) -> Callable[[], dict[str, float]]:
    """A training step, which gives its time by each clock."""
    inferer = TrainingInferer(precision)
    optimizer = torch.optim.AdamW(network.train().parameters(), 1e-4, fused=True)
    whole, maps = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, batch=True), MutationLoss()

    def step() -> dict[str, float]:
        began = {name: clock() for name, clock in CLOCKS.items()}
        optimizer.zero_grad()
        output = inferer(x, network)
        (whole if torch.is_tensor(output) else maps)(output, y).backward()
        optimizer.step()
        return {name: clock() - began[name] for name, clock in CLOCKS.items()}

    return step


def measure(name: str, size: int, batch: int, rounds: int) -> None:
    """Print a row for each clock."""
    torch.manual_seed(0)
    network = build(name, size)
    x = torch.rand(batch, 3 if name in COLOUR else 1, size, size)
    y = torch.randint(CLASSES, (batch, 1, size, size))
    steps = {side: stepper(copy.deepcopy(network), side, x, y) for side in SIDES}
    took: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for i in range(rounds + 1):
        for side in SIDES if i % 2 else reversed(SIDES):
            times = steps[side]()
            if i:  # the first round warms up
                took[side].append(times)
    for clock in CLOCKS:
        plain, half = ([times[clock] for times in took[side]] for side in SIDES)
        ratios = [a / b for a, b in zip(plain, half, strict=True)]
        print(
            f"| {name} | {clock} | {median(plain):.2f} | {median(half):.2f} | "
            f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=["DCAUNet"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    print(f"{cpu_model()}, {args.threads} thread(s), bfloat16: {'yes' if has_bfloat16() else 'no'}")
    print(f"torch {torch.__version__}; {args.batch} images of {args.size}x{args.size}, {args.rounds} rounds\n")
    print("| network | | float32 | bfloat16 | so many times as fast (range) |\n|---|---|---|---|---|")
    for name in args.network:
        measure(name, args.size, args.batch, args.rounds)


if __name__ == "__main__":
    main()
