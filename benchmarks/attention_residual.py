# SPDX-License-Identifier: Apache-2.0
"""What XAttnRes's reads cost: ``mode="skip"`` beside ``mode="baseline"`` of the same network.

    python -m benchmarks.attention_residual [--size 224] [--batch 2] [--rounds 7]

Forward and backward of both, alternately in one process on one thread; a round gives one ratio. Peak memory is that of
a process of its own over what it held before the step (Linux only).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

import torch
import torch.nn as nn

from benchmarks.machine import cpu_model, memory_taken
from monai_ext.networks import nets

NETWORKS = {"XAttnResUNet": {}, "XAttnResEMCAD": {"encoder": "pvt_v2_b2"}}


def build(name: str, mode: str) -> nn.Module:
    torch.manual_seed(0)
    return getattr(nets, name)(spatial_dims=2, in_channels=1, out_channels=9, mode=mode, **NETWORKS[name]).train()


def step(network: nn.Module, x: torch.Tensor) -> float:
    network.zero_grad()
    start = time.perf_counter()
    output = network(x)
    maps = [output] if isinstance(output, torch.Tensor) else output
    sum((y * y).mean() for y in maps).backward()
    return time.perf_counter() - start


def peak(name: str, mode: str, size: int, batch: int) -> float:
    code = f"from benchmarks.attention_residual import measure; measure({name!r}, {mode!r}, {size}, {batch})"
    # glibc gives back what is freed, so that the peak is what was in use
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=exact, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(name: str, mode: str, size: int, batch: int) -> None:
    """Print the MiB that a step takes beside the network."""
    torch.set_num_threads(1)
    network, x = build(name, mode), torch.rand(batch, 1, size, size)
    step(network, x[:, :, :64, :64])  # libraries and gradients are there
    print(memory_taken(lambda: step(network, x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{cpu_model()}, 1 thread, torch {torch.__version__}; {args.batch}x1x{args.size}x{args.size}\n")
    print("| network | baseline s | skip s | time: median (range) | baseline MiB | skip MiB | memory |")
    print("|---|---|---|---|---|---|---|")
    for name in NETWORKS:
        sides = {mode: build(name, mode) for mode in ("baseline", "skip")}
        x = torch.rand(args.batch, 1, args.size, args.size)
        times: dict[str, list[float]] = {mode: [] for mode in sides}
        for i in range(args.rounds + 1):
            for mode in sides if i % 2 else reversed(sides):
                seconds = step(sides[mode], x)
                if i:  # the first round warms up
                    times[mode].append(seconds)
        ratios = [a / b for a, b in zip(times["skip"], times["baseline"], strict=True)]
        memory = {mode: peak(name, mode, args.size, args.batch) for mode in sides}
        print(
            f"| {name} | {median(times['baseline']):.2f} | {median(times['skip']):.2f} | x{median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) | {memory['baseline']:.0f} | {memory['skip']:.0f} | "
            f"x{memory['skip'] / memory['baseline']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
