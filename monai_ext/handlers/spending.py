# SPDX-License-Identifier: Apache-2.0
"""What the steps of a training cost: time, computing time, memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

__all__ = ["Spending", "peak_memory"]


class Spending:
    """Add up what a training's steps cost, each from asking for its batch to the end of its update.

    Validation, checkpoints and the start, with its reading of the data, are no steps.

    ``so_far()`` gives ``{"steps": ..., "seconds": ..., "cpu_seconds": ..., "peak_bytes": ...}``: seconds by the clock,
    CPU seconds of this process (its worker processes' are not in it), and the peak of its memory, on a GPU of what
    PyTorch took there.
    """

    def __init__(self) -> None:
        self.spent: dict[str, float] = {"steps": 0, "seconds": 0.0, "cpu_seconds": 0.0, "peak_bytes": 0}
        self.began: tuple[float, float] | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def so_far(self) -> dict[str, float]:
        return {**self.spent, "peak_bytes": max(self.spent["peak_bytes"], peak_memory())}

    def resume(self, spent: Mapping[str, Any] | None) -> None:
        """Go on from what a checkpoint says."""
        if spent is not None:
            self.spent = {key: spent[key] for key in self.spent}

    def _begin(self, engine: Engine) -> None:
        self.began = time.perf_counter(), time.process_time()

    def _end(self, engine: Engine) -> None:
        if self.began is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a step may still be computed there
        self.spent["steps"] += 1
        self.spent["seconds"] += time.perf_counter() - self.began[0]
        self.spent["cpu_seconds"] += time.process_time() - self.began[1]
        self.began = None


def peak_memory() -> int:
    """Bytes of memory that this process had at the most: of the GPU where it uses one, else of the machine."""
    if torch.cuda.is_available() and (taken := torch.cuda.max_memory_allocated()):
        return int(taken)
    status = Path("/proc/self/status")  # Linux; getrusage counts the process that started this one, too
    if status.is_file() and "VmHWM:" in (text := status.read_text()):
        return 1024 * int(text.split("VmHWM:")[1].split()[0])
    if sys.platform == "win32":
        return 0
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
