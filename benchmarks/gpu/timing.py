# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of steps, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn as nn

from benchmarks.gpu.job import Row

Step = Callable[[], Any]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(step: Step, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - start


def in_turns(steps: dict[str, Step], rounds: int, device: torch.device) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):  # choice of kernels
            step()
    for i in range(rounds):
        for name in steps if i % 2 else reversed(steps):
            times[name].append(seconds(steps[name], device))
    return times


def compared(times: list[float], base: list[float]) -> Row:
    ratios = [b / t for b, t in zip(base, times, strict=True)]
    return {"ms": 1e3 * median(times), "speed": median(ratios), "range": f"{min(ratios):.2f}-{max(ratios):.2f}"}


def memory_of(step: Step, device: torch.device, network: nn.Module) -> float | None:
    """Peak MiB while it runs, the network's weights counted and other data that is there not."""
    if device.type != "cuda":
        step()
        return None
    others = torch.cuda.memory_allocated() - sum(p.numel() * p.element_size() for p in network.parameters())
    torch.cuda.reset_peak_memory_stats()
    step()
    wait(device)
    return (torch.cuda.max_memory_allocated() - others) / 2**20
