# SPDX-License-Identifier: Apache-2.0
"""What every part is given: the device, its time, a folder, and the networks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 9
Row = dict[str, Any]
#: a part yields what comes next, the seconds that it will want at least, and the step that returns its rows
Steps = Iterator[tuple[str, float, Callable[[], list[Row]]]]
#: what is computed in it under autocast, and whether float32 products may use the matrix units' short mantissa
PRECISIONS: dict[str, tuple[torch.dtype | None, bool]] = {
    "float32": (None, False),
    "TF32": (None, True),
    "float16": (torch.float16, False),
    "bfloat16": (torch.bfloat16, False),
}


class Method(NamedTuple):
    """A bundle's network, with the size, batch and (for so few steps) a learning rate that suits it."""

    name: str
    in_channels: int = 1
    out_channels: int = CLASSES
    size: int = 224
    batch: int = 24
    learning_rate: float = 5e-4


METHODS = (
    Method("DCAUNet", learning_rate=1e-3),
    Method("UNetDCA"),
    Method("QTSeg", in_channels=3, out_channels=2, size=512, batch=8),
    Method("XAttnResUNet"),
    Method("XAttnResEMCAD"),
)


@dataclass(frozen=True)
class Job:
    device: torch.device
    tiny: bool
    rounds: int
    folder: Path
    deadline: float

    def left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def methods(self) -> tuple[Method, ...]:
        return (METHODS[0]._replace(size=64, batch=2),) if self.tiny else METHODS

    @property
    def precisions(self) -> list[str]:
        return list(PRECISIONS) if self.device.type == "cuda" else ["float32", "bfloat16"]


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    dtype, short = PRECISIONS[name]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = short
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        yield
