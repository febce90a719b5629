# SPDX-License-Identifier: Apache-2.0
"""Dice pooled over the test scans, and NSD, of labels of either side, by the values that ``dataset.json`` lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from monai_ext.metrics import label_metrics
from monai_ext.utils import read_json

__all__ = ["TOLERANCE", "score"]

TOLERANCE = 2.0  # mm, of pictures pixels


def score(data: Path, labels: Path, truths: Path | None = None, slices: bool = False) -> dict[str, Any]:
    """``dice`` and ``nsd``, means over the classes, and those of each class in ``dice of`` and ``nsd of``.

    ``truths``: by default those of the test scans; ``slices``: surfaces are compared in slices.
    """
    classes = {
        name: np.atleast_1d(value)
        for name, value in read_json(data / "dataset.json", "list")["labels"].items()
        if name not in ("background", "ignore")
    }
    pairs = [_pair(labels / path.name, path) for path in sorted((truths or data / "labelsTs").iterdir())]
    dice, nsd = {}, {}
    for name, values in classes.items():
        masks = [(np.isin(found, values), np.isin(truth, values), spacing) for found, truth, spacing in pairs]
        sizes = sum(int(a.sum() + b.sum()) for a, b, _ in masks)
        dice[name] = 2 * sum(int((a & b).sum()) for a, b, _ in masks) / sizes if sizes else float("nan")
        nsd[name] = _nsd(masks, slices)
    return {"dice": _mean(dice), "nsd": _mean(nsd), "dice of": dice, "nsd of": nsd}


def _mean(of: dict[str, float]) -> float:
    return float(np.nanmean(list(of.values())))


def _pair(found: Path, truth: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    if truth.suffix == ".png":
        a, b = (np.asarray(Image.open(path)) for path in (found, truth))
        spacing: tuple[float, ...] = (1.0, 1.0)
    else:
        volumes = [nibabel.load(path) for path in (found, truth)]
        if not np.allclose(volumes[0].affine, volumes[1].affine, atol=1e-3):
            raise ValueError(f"{found}: does not lie where its scan does")
        a, b = (np.asarray(volume.dataobj) for volume in volumes)
        spacing = tuple(float(side) for side in volumes[1].header.get_zooms()[:3])
    if a.shape != b.shape:
        raise ValueError(f"{found}: {a.shape}, its truth {b.shape}")
    return a.astype(int), b.astype(int), spacing


def _nsd(masks: list[tuple[np.ndarray, np.ndarray, tuple[float, ...]]], slices: bool) -> float:
    """The mean over scans, or over slices, that have the class on either side."""
    if slices:  # blocks of two slices: nearly each of their voxels would be surface
        masks = [(a[..., k], b[..., k], spacing[:2]) for a, b, spacing in masks for k in range(a.shape[-1])]
    each = [
        label_metrics(a.astype(np.uint8), b.astype(np.uint8), 2, spacing, metrics="nsd", tolerances=TOLERANCE)["nsd"][0]
        for a, b, spacing in masks
        if a.any() or b.any()
    ]
    return float(np.mean(each)) if each else float("nan")
