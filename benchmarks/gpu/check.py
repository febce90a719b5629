# SPDX-License-Identifier: Apache-2.0
"""Every network against what the CPU makes of it; beside it, weights are trained and bundles run."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from monai.bundle import ConfigParser

from benchmarks.gpu.data import build, phantom, slices
from benchmarks.gpu.job import ROOT, Job, Row, Steps, precision
from benchmarks.gpu.processes import call
from monai_ext.networks import nets
from monai_ext.utils import read_json

BUNDLES = ROOT / "bundles"
Command = tuple[str, ...]
"""A title, a bundle's configs, and options."""


def commands_of(job: Job) -> dict[str, list[Command]]:
    """What a user types, name -> commands."""
    epoch = ("--epochs", "1", "--val_interval", "1")
    if job.device.type == "cpu":
        small = ("--image_size", "[32,32]", "--batch_size", "4", "--device", "cpu")
        return {"dcaunet_synapse": [("training", "train", *epoch, *small)]}
    train, again = ("training", "train", *epoch), ("--epochs", "2", "--val_interval", "1", "--resume", "true")
    each = [train, ("evaluation", "train+evaluate"), ("inference", "inference")]
    found: dict[str, list[Command]] = {
        path.parents[1].name: each for path in sorted(BUNDLES.glob("*/configs/metadata.json"))
    }
    found["dcaunet_synapse, resumed"] = [train, ("resumed", "train", *again)]
    found["dcaunet_synapse, torchrun"] = [
        ("training", "train+multi_gpu_train", *epoch),
        ("evaluation", "train+evaluate+multi_gpu_evaluate"),
    ]
    found["dcaunet_synapse, 3D"] = [
        ("training", "train+train_3d", *epoch, "--patches_per_volume", "1"),
        ("evaluation", "train+train_3d+evaluate"),
        ("inference", "inference+inference_3d"),
    ]
    return found


def run_bundle(job: Job, what: str, commands: list[Command], threads: int) -> list[Row]:
    folder, configs = job.folder / "runs" / what.replace(", ", "_"), BUNDLES / what.split(",")[0] / "configs"
    folder.mkdir(parents=True, exist_ok=True)
    row: Row = {"what": what}
    for title, files, *options in commands:
        launcher = "torch.distributed.run --standalone --nproc_per_node=1 -m " if "multi_gpu" in files else ""
        words = [*f"{launcher}monai.bundle run --config_file".split()]
        words += [str([str(configs / f"{name}.json") for name in files.split("+")]), *options]
        began = time.perf_counter()
        call(job, [*words, "--output_dir", folder, "--ckpt_dir", folder], OMP_NUM_THREADS=str(threads))
        row[f"{title} s"] = time.perf_counter() - began
    return [row]


def weights(job: Job, name: str) -> list[Row]:
    options = ["--device", job.device, "--keep", job.folder, *(["--tiny"] if job.tiny else [])]
    call(job, ["benchmarks.gpu", "--weights", name, *options], OMP_NUM_THREADS="1")
    return [read_json(job.folder / f"{name}.json", "weights")]


def against_cpu(job: Job, name: str, dims: int) -> list[Row]:
    """Relative errors of the output in each precision, and of the gradient."""
    sides = (64, 96) if dims == 2 else (64, 32, 32)
    network = build(name, dims, in_channels=3, img_size=sides).eval()
    x = torch.rand(1, 3, *sides)

    def output_of(x: torch.Tensor, kind: str) -> torch.Tensor:
        with precision(kind, x.device):
            output = network.to(x.device)(x)
        return torch.cat([t.float().flatten() for t in ([output] if torch.is_tensor(output) else output)])

    def with_gradient(x: torch.Tensor) -> list[torch.Tensor]:
        network.zero_grad()
        flat = output_of(x, "float32")
        (flat * torch.cos(torch.arange(len(flat), device=x.device))).sum().backward()
        grads = [p.grad.float().flatten() for p in network.parameters() if p.grad is not None]
        return [flat.detach().cpu(), torch.cat(grads).cpu()]

    def error(found: torch.Tensor, expected: torch.Tensor) -> float:
        return float((found - expected).norm() / expected.norm())

    expected = with_gradient(x)
    x = x.to(job.device)
    output, gradient = (error(a, b) for a, b in zip(with_gradient(x), expected, strict=True))
    row: Row = {"what": f"{name}, {dims}D", "float32": output, "float32, gradient": gradient}
    with torch.no_grad():
        others = {kind: error(output_of(x, kind).cpu(), expected[0]) for kind in job.precisions[1:]}
    if not (output < 1e-4 and gradient < 1e-2 and all(value < 0.5 for value in others.values())):
        raise ArithmeticError(f"relative errors {row | others}")
    return [row | others]


def check(job: Job) -> Steps:
    cores, commands = os.cpu_count() or 1, commands_of(job)
    workers = max(1, min(6, cores // 2))
    for bundle in {what.split(",")[0] for what in commands}:
        train = ConfigParser.load_config_file(str(BUNDLES / bundle / "configs" / "train.json"))
        phantom(job, train["dataset_name"])
    torch.set_num_threads(1)  # several would wait for each other on a busy processor
    slices(job, job.methods[0])
    pool = ThreadPoolExecutor(workers + len(job.methods))
    found = {f"{method.name}, weights": pool.submit(weights, job, method.name) for method in job.methods}
    for what, words in commands.items():
        found[what] = pool.submit(run_bundle, job, what, words, max(1, cores // workers))
    for dims in (2, 3):
        for name in ["DCAUNet"] if job.tiny else nets.__all__:
            if dims == 2 or name != "DoubleUNetDCA":
                yield f"{name}, {dims}D", 30, lambda name=name, dims=dims: against_cpu(job, name, dims)
    wait(found.values(), timeout=max(0.0, job.left() - 8))
    for what, future in found.items():
        yield what, 0 if future.done() else math.inf, future.result
    pool.shutdown(wait=False, cancel_futures=True)
