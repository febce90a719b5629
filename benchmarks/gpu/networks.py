# SPDX-License-Identifier: Apache-2.0
"""The forward pass: as it is in every precision; in bfloat16, as a CUDA graph and compiled."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import numpy as np
import torch
import torch.nn as nn

from benchmarks.gpu.data import labels_of, organ_dice, slices, trained
from benchmarks.gpu.job import Job, Method, Row, Steps, precision
from benchmarks.gpu.processes import one_line
from benchmarks.gpu.timing import compared, in_turns, memory_of, seconds

Forward = Callable[[torch.Tensor], torch.Tensor]


def compare(
    job: Job, method: Method, weights: str, variants: dict[str, Forward], network: nn.Module | None = None
) -> list[Row]:
    """Time, memory, labels and Dice of each variant, beside the first; one that fails has a row that says so.

    Args:
        variants: a name that begins with its precision -> images to logits.
        network: what runs in all, if memory is asked for; a graph has taken its own before.
    """
    *_, x_test, y_test = slices(job, method)
    batch, stride = x_test[: method.batch].contiguous(), -(-len(x_test) // 96)
    x_test, y_test = x_test[::stride], y_test[::stride]
    last = batch.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run(name: str, x: torch.Tensor) -> torch.Tensor:
        with precision(name.split(",")[0], job.device):
            return variants[name](x)

    steps = {name: lambda n=name, x=last if "channels last" in name else batch: run(n, x) for name in variants}
    rows: dict[str, Row] = {}
    kept: dict[str, torch.Tensor] = {}
    for name, step in list(steps.items()):
        row = rows[name] = {"what": f"{method.name}, {name}", "weights": weights}
        try:
            row["first s"] = seconds(step, job.device)
            kept[name] = labels_of(lambda x, name=name: run(name, x), x_test, method.batch)
        except Exception as e:
            traceback.print_exc()
            row["failed"] = one_line(e)
            del steps[name]
    times = in_turns(steps, job.rounds, job.device)
    dice = {name: organ_dice(labels, y_test, method.out_channels) for name, labels in kept.items()}
    base = next(iter(steps), "")
    for name, step in steps.items():
        rows[name] |= {
            **compared(times[name], times[base]),
            "peak MiB": None if network is None else memory_of(step, job.device, network),
            "labels differing %": 100 * float((kept[name] != kept[base]).float().mean()),
            "Dice": float(np.nanmean(dice[name])),
            "largest change of a class, points": 100 * float(np.nanmax(np.abs(dice[name] - dice[base]))),
        }
    return list(rows.values())


def networks(job: Job) -> Steps:
    def forward(method: Method) -> list[Row]:
        network, weights = trained(job, method)
        other = trained(job, method)[0].to(memory_format=torch.channels_last)
        variants: dict[str, Forward] = dict.fromkeys(job.precisions, network)
        variants |= {f"{kind}, channels last": other for kind in ("TF32", "bfloat16") if kind in variants}
        return compare(job, method, weights, variants, network)

    for method in job.methods:
        yield method.name, 5, lambda method=method: forward(method)


def graph(network: nn.Module, x: torch.Tensor) -> Forward:
    """The network in bfloat16, recorded for batches like ``x``."""
    held = x.clone()
    # without autocast's cache: weights converted before the recording would be gone afterwards
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                network(held)
        torch.cuda.current_stream().wait_stream(side)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            output = network(held)

    def replay(x: torch.Tensor) -> torch.Tensor:
        held.copy_(x)
        recorded.replay()
        return output

    return replay


def compiled(job: Job) -> Steps:
    # a try of the script needs the graph, not minutes of code generation
    options = {"compiled": {"backend": "aot_eager"} if job.tiny else {}}
    if job.device.type == "cuda":
        options = {"CUDA graph": {}, **options, "compiled, CUDA graph": {"mode": "reduce-overhead"}}

    def variant(method: Method, name: str) -> list[Row]:
        network, weights = trained(job, method)
        if name == "CUDA graph":
            made = graph(network, slices(job, method)[2][: method.batch].contiguous())
        else:
            torch._dynamo.reset()
            made = torch.compile(network, **options[name])
        return compare(job, method, weights, {"bfloat16": network, f"bfloat16, {name}": made})

    for name in options:
        for method in job.methods:
            needs = 0 if job.tiny else 3 if name == "CUDA graph" else 20
            yield f"{method.name}, {name}", needs, lambda m=method, n=name: variant(m, n)
