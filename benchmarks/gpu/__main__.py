# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.gpu``: options, and the parts in turn."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import benchmarks.gpu
from benchmarks.gpu.check import check
from benchmarks.gpu.copies import copies
from benchmarks.gpu.job import Job, Steps
from benchmarks.gpu.metrics import metrics
from benchmarks.gpu.networks import compiled, networks
from benchmarks.gpu.processes import how_to_start, run_part
from benchmarks.gpu.rates import rates
from benchmarks.gpu.record import Report, machine, say
from benchmarks.gpu.training import make_weights, training
from benchmarks.gpu.volume import volume

#: steps and seconds at most, in this order: first what later parts build on, last what may be cut off
PARTS: dict[str, tuple[Callable[[Job], Steps], float]] = {
    "check": (check, 190),
    "rates": (rates, 15),
    "training": (training, 90),
    "networks": (networks, 60),
    "volume": (volume, 90),
    "metrics": (metrics, 20),
    "copies": (copies, 15),
    "compiled": (compiled, 180),
}


def main(arguments: list[str] | None = None) -> int:
    about = str(benchmarks.gpu.__doc__).splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=about)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="tables go beside it, as .md")
    parser.add_argument("--minutes", type=float, default=8, help="for all parts together")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small inputs, one network: a try of the script")
    parser.add_argument("--keep", type=Path, help="a folder for weights and phantoms, used again if it is there")
    parser.add_argument("--weights", metavar="NETWORK", help=argparse.SUPPRESS)  # what check starts
    args = parser.parse_args(arguments)
    device, end = torch.device(args.device), benchmarks.gpu.STARTED + 60 * args.minutes - 5
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("This needs a CUDA GPU and a PyTorch built for it. --device cpu --tiny only tries the script.")
    if args.weights:
        make_weights(Job(device, args.tiny, args.rounds, args.keep, math.inf), args.weights)
        return 0
    report = Report(args.output, machine(device), {key: str(value) for key, value in vars(args).items()})
    say(report.content["machine"])
    context = how_to_start(device)
    say(f"parts start by {context.get_start_method()}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        # numbers of one run: compiled code of an earlier one would make compiling look free
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(scratch) / "inductor")
        for name in args.part:
            report.begin(name)
            steps, limit = PARTS[name]
            deadline = min(time.monotonic() + limit, end)
            if deadline <= time.monotonic():
                report.add([{"what": name, "not run": "time"}])
                continue
            run_part(name, steps, Job(device, args.tiny, args.rounds, folder, deadline), context, report.add)
            report.add([])
    failed = sum("failed" in row for part in report.content["parts"].values() for row in part["rows"])
    say(f"{failed} failed; {args.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
