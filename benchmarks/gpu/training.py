# SPDX-License-Identifier: Apache-2.0
"""Some steps in each precision, for time and memory; and, for ``check``, enough of them for weights."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
import torch.nn as nn
from monai.losses import DiceCELoss

from benchmarks.gpu.data import labels_of, network_of, organ_dice, slices
from benchmarks.gpu.job import METHODS, Job, Method, Row, Steps, precision
from benchmarks.gpu.timing import memory_of, wait
from monai_ext.losses import MutationLoss
from monai_ext.utils import replacing, write_json


def train(
    job: Job, network: nn.Module, method: Method, data: list[torch.Tensor], kind: str, count: int
) -> tuple[float, float, float]:
    """Train; return seconds a step, the last loss, and the steps that float16's scale skipped."""
    plain = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, batch=True, lambda_dice=0.6, lambda_ce=0.4)
    supervised = MutationLoss()
    x, y = data[:2]
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), method.learning_rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, count, power=0.9)
    scaler = torch.amp.GradScaler(job.device.type, enabled=kind == "float16")
    filled = (y > 0).flatten(1).any(dim=1).nonzero()[:, 0].cpu().numpy()
    chosen = torch.as_tensor(np.random.default_rng(0).choice(filled, (count, method.batch)), device=job.device)
    network.train()
    for step in range(count):
        if step == min(5, count // 2):
            wait(job.device)
            began, before = time.perf_counter(), step
        optimizer.zero_grad()
        with precision(kind, job.device):
            output = network(x[chosen[step]])
            truth = y[chosen[step]].long()
            loss = plain(output, truth) if torch.is_tensor(output) else supervised(output, truth)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    wait(job.device)
    each = (time.perf_counter() - began) / (count - before)
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the loss is {loss.item()} after {count} steps")
    return each, loss.item(), 16 - math.log2(scaler.get_scale()) if kind == "float16" else 0.0


def make_weights(job: Job, name: str) -> list[Row]:
    """Train a network for long enough that comparing labels means something; keep its weights in the job's folder."""
    method = next(method for method in job.methods if method.name == name)
    count = 4 if job.tiny else 300 if method is METHODS[0] else 150  # a volume is segmented with the first
    network, data = network_of(job, method), slices(job, method)
    _, loss, _ = train(job, network, method, data, "bfloat16", count)
    with replacing(job.folder / f"{name}.pt") as temporary:
        torch.save(network.state_dict(), temporary)
    x_test, y_test = data[2:]
    network.eval()
    with precision("bfloat16", job.device):
        dice = organ_dice(labels_of(network, x_test, method.batch), y_test, method.out_channels)
    row = {"what": f"{name}, weights for other parts", "steps": count, "loss": loss, "Dice": float(np.nanmean(dice))}
    write_json(job.folder / f"{name}.json", row)
    return [row]


def training(job: Job) -> Steps:
    def timed(method: Method, kind: str) -> list[Row]:
        network, data, count = network_of(job, method), slices(job, method), 4 if job.tiny else 20
        found: list[tuple[float, float, float]] = []
        peak = memory_of(lambda: found.append(train(job, network, method, data, kind, count)), job.device, network)
        each, _, skipped = found[0]
        row = {"what": f"{method.name}, {kind}", "batch": f"{method.batch} of {method.size}x{method.size}"}
        row |= {"ms a step": 1e3 * each, "images a second": method.batch / each, "peak MiB": peak, "skipped": skipped}
        return [row]

    for method in job.methods:
        for kind in ("float32", "float16", "bfloat16"):
            if kind in job.precisions:
                yield f"{method.name}, {kind}", 3, lambda m=method, k=kind: timed(m, k)
