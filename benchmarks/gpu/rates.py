# SPDX-License-Identifier: Apache-2.0
"""What the card reaches, to see the rest in proportion."""

from __future__ import annotations

from statistics import median

import torch

from benchmarks.gpu.job import PRECISIONS, Job, Row, Steps, precision
from benchmarks.gpu.timing import Step, in_turns


def rates(job: Job) -> Steps:
    side, size = (8192, 2**30) if job.device.type == "cuda" else (256, 2**20)

    def time_of(step: Step) -> float:
        return median(in_turns({"": step}, job.rounds, job.device)[""])

    def measure() -> list[Row]:
        rows = []
        for kind in job.precisions:
            a, b = (torch.rand(side, side, device=job.device, dtype=PRECISIONS[kind][0]) for _ in range(2))
            with precision(kind, job.device):
                rate = 2 * side**3 / time_of(lambda a=a, b=b: a @ b) / 1e12
            rows.append({"what": f"matrix product {side}, {kind}", "TFLOP/s": rate})
        source = torch.rand(size // 4, device=job.device)
        target = torch.empty_like(source)
        rate = 2 * size / time_of(lambda: target.copy_(source)) / 1e12
        return [*rows, {"what": "copy on the device, read and written", "TB/s": rate}]

    yield "rates", 3, measure
