# SPDX-License-Identifier: Apache-2.0
"""Slices of phantoms, networks with their weights, and labels and Dice of both."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn

from benchmarks.gpu.job import Job, Method
from benchmarks.learning import volume
from monai_ext.data import load_datalist, write_phantom
from monai_ext.metrics import label_metrics
from monai_ext.networks import load_weights, nets
from monai_ext.transforms import resize_slices
from monai_ext.utils import replacing


def phantom(job: Job, name: str = "synapse") -> Path:
    """The phantom where the bundles look for theirs."""
    folder = job.folder / "cache" / "monai_ext" / "phantoms" / name
    if not folder.exists():
        unfinished = folder.with_name(name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_phantom(name, unfinished, {"synapse": 5 if job.tiny else 12, "acdc": 5}.get(name, 16))
        unfinished.rename(folder)
    return folder


def slices(job: Job, method: Method) -> list[torch.Tensor]:
    """Images and classes to train on and, from other phantoms, to test, on the device."""
    size, kept = job.methods[0].size, job.folder / "slices.pt"
    if not kept.exists():
        cases = load_datalist("synapse", phantom(job), split="paper")
        made = []
        for part in ("training", "test"):
            pairs = [volume(case["image"], case["label"], cases["label_mapping"]) for case in cases[part]]
            # as the bundle's preprocessing turns them: LPS
            made.append(torch.cat([resize_slices(x.flip(2, 3), size, "cubic") for x, _ in pairs]))
            made.append(torch.cat([resize_slices(y.flip(2, 3), size, "nearest") for _, y in pairs]).to(torch.uint8))
        with replacing(kept) as temporary:
            torch.save(made, temporary)
    x, y, x_test, y_test = (t[:: 1 + 9 * job.tiny].to(job.device) for t in torch.load(kept, weights_only=True))
    found = []
    for images, classes in ((x, y), (x_test, y_test)):
        if method.out_channels == 2:  # organs, and what is none
            classes = (classes > 0).to(classes)
        found.append(resize_slices(images, method.size, "cubic").expand(-1, method.in_channels, -1, -1))
        found.append(resize_slices(classes, method.size, "nearest"))
    return found


def build(name: str, spatial_dims: int = 2, **arguments: object) -> nn.Module:
    """A network with weights of a seed; of the arguments, those that it has."""
    constructor = getattr(nets, name)
    known = inspect.signature(constructor).parameters
    torch.manual_seed(0)
    return constructor(spatial_dims=spatial_dims, **{k: v for k, v in arguments.items() if k in known})


def network_of(job: Job, method: Method) -> nn.Module:
    channels = {"in_channels": method.in_channels, "out_channels": method.out_channels}
    return build(method.name, img_size=224, **channels).to(job.device)


def trained(job: Job, method: Method) -> tuple[nn.Module, str]:
    """The network with what ``check`` left, else with new weights."""
    network, weights = network_of(job, method).eval(), job.folder / f"{method.name}.pt"
    if not weights.exists():
        return network, "new"
    load_weights(network, weights)
    return network, "trained"


@torch.no_grad()
def labels_of(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, batch: int) -> torch.Tensor:
    """Classes of ``x``; every batch is whole, as a captured graph wants it."""
    found = []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        scores = run(torch.cat([part, part[:1].expand(batch - len(part), -1, -1, -1)]))
        if not torch.isfinite(scores).all():
            raise FloatingPointError("the network's output is not finite")
        found.append(scores[: len(part)].argmax(dim=1, keepdim=True).to(torch.uint8))
    return torch.cat(found)


def organ_dice(labels: torch.Tensor, truth: torch.Tensor, classes: int) -> np.ndarray:
    """Dice of each class over all slices together."""
    return label_metrics(labels.squeeze(1), truth.squeeze(1), classes, metrics="dice")["dice"]
