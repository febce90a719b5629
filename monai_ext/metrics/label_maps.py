# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from .surfaces import Distances, Surface, edge_voxels, slabs, surface_elements

__all__ = ["check_label_maps", "label_metrics"]

CONVENTIONS = ("deepmind", "monai", "transunet")
METRICS = ("dice", "nsd", "volume_ml", "hd95", "iou", "assd")
PERFECT = {"dice": 1.0, "iou": 1.0, "nsd": 1.0, "hd95": 0.0, "assd": 0.0}


def label_metrics(
    pred: np.ndarray | torch.Tensor,
    label: np.ndarray | torch.Tensor,
    num_classes: int,
    spacing: Sequence[float] | float = 1.0,
    convention: str = "monai",
    metrics: Sequence[str] | str | None = None,
    tolerances: Sequence[float] | float | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compare two label maps class by class: overlap, distances between surfaces, and volumes.

    The maps are never one-hot encoded. One pass counts the voxels of all classes, one finds all edges: a voxel is on
    the edge of its class if one of its 6 neighbours (4 in 2D) has another label or lies outside. Where a prediction is
    good, the other surface is found among the neighbours of a voxel; a k-d tree per class over edge voxels answers for
    the rest. So neither many classes nor stray voxels far away cost more than their edges, and beyond the maps memory
    is taken for these and one mask. ``torch.get_num_threads()`` threads search the trees.

    Results differ between papers because conventions do, so the convention has a name:

    ``"monai"``
        Distances in the units of ``spacing``; HD95 is the maximum of the two directed 95th percentiles, NSD the share
        of both maps' edge voxels within the tolerance of the other's. Equals
        ``monai.metrics.compute_hausdorff_distance(percentile=95)``, ``compute_surface_dice`` and
        ``compute_average_surface_distance(symmetric=True)`` where both maps hold the class. A class in one map only has
        Dice, IoU and NSD 0, HD95 and ASSD ``inf``: a missed organ stays visible, and a mean over it is ``inf`` rather
        than better than without it. A class in neither map is ``nan`` throughout: there was nothing to measure.
    ``"deepmind"``
        As the package surface-distance, and MONAI with ``use_subvoxels=True``: the surface passes between voxels, and
        each of its elements counts by its area (2D: length). HD95 is that package's robust Hausdorff distance, NSD its
        surface Dice at tolerance; ASSD is the mean over both surfaces, by area. Missing classes as for ``"monai"``.
    ``"transunet"``
        The numbers of the papers that follow TransUNet's evaluation, EMCAD's tables among them: distances in voxels
        (``spacing`` is checked, not used); HD95 is the 95th percentile of both directions' distances pooled, as in
        MedPy. If the prediction lacks the class, all is 0, missed organ or not; if only the truth lacks it, Dice and
        IoU are 1, HD95 and ASSD are 0. A missed organ therefore *improves* the mean HD95. There is no NSD.

    Args:
        pred: predicted label map of any integer (or boolean) dtype, ``(H, W)`` or ``(H, W, D)`` without batch or
            channel axis. Tensors on a GPU are copied to the CPU once.
        label: true label map, of the same shape.
        num_classes: number of classes, background (0) included; values lie in ``0 .. num_classes - 1``.
        spacing: voxel size along each axis, or one number for all.
        convention: ``"monai"``, ``"deepmind"`` or ``"transunet"``.
        metrics: names among ``"dice"``, ``"hd95"``, ``"assd"`` (average symmetric surface distance), ``"iou"``,
            ``"nsd"`` (normalised surface distance, needs ``tolerances``) and ``"volume_ml"`` (3D). By default all that
            the arguments allow, but ``"iou"``.
        tolerances: how far apart surfaces may be for ``"nsd"``, in the units of ``spacing``: one number, or one for
            each of classes ``1 .. num_classes - 1``. A distance that equals it in float32 is within it.

    Returns:
        For each name in ``metrics`` a float64 array with one entry for each of classes ``1 .. num_classes - 1``. For
        ``"volume_ml"`` four rows of them, in every convention from ``spacing`` in millimetres: predicted, true, their
        difference, and this in percent of the true one (``inf`` if there is none, ``nan`` if neither is there).

    Raises:
        ValueError: if dtypes, shapes, labels, ``spacing``, ``convention``, ``metrics`` or ``tolerances`` are not as
            described.

    Examples::

        >>> label = np.zeros((64, 64, 32), dtype=np.uint8)
        >>> label[20:40, 20:40, 10:20] = 1
        >>> moved = np.roll(label, 1, axis=2)
        >>> label_metrics(moved, label, num_classes=3, spacing=(0.8, 0.8, 3.0), metrics=("dice", "hd95"))
        {'dice': array([0.9, nan]), 'hd95': array([ 3., nan])}
        >>> label_metrics(moved, label, 3, (0.8, 0.8, 3.0), tolerances=2.0)["nsd"].round(3)
        array([0.681,   nan])
    """
    for name in ensure_tuple(metrics or ()):
        if name not in METRICS:
            raise ValueError(f"monai_ext: metrics must be among {', '.join(map(repr, METRICS))}; got {name!r}.")
    if convention not in CONVENTIONS:
        raise ValueError(
            f"monai_ext: convention must be one of {', '.join(map(repr, CONVENTIONS))}; got {convention!r}."
        )
    pred_map, label_map = check_label_maps(pred, label, num_classes)
    sizes = _check_spacing(spacing, label_map.ndim)
    within = None if tolerances is None else _check_tolerances(tolerances, num_classes, convention)
    names = _choose(metrics, label_map.ndim, within is not None)

    # walk through memory in its own order: files of NIfTI arrive with the first axis fastest
    order = np.argsort([-abs(stride) for stride in label_map.strides], kind="stable")
    pred_map, label_map = pred_map.transpose(order), label_map.transpose(order)

    in_pred, in_label, in_both = _count_voxels(pred_map, label_map, num_classes)[:, 1:]
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is the nan of a class that neither map holds
        result = {"dice": 2.0 * in_both / (in_pred + in_label), "iou": in_both / (in_pred + in_label - in_both)}
        difference = in_pred - in_label
        percent = 100.0 * difference / in_label
    if not {"hd95", "assd", "nsd"}.isdisjoint(names):
        one_missing = (in_pred == 0) != (in_label == 0)
        result["hd95"] = np.where(one_missing, np.inf, np.nan)
        result["assd"] = result["hd95"].copy()
        result["nsd"] = np.where(one_missing, 0.0, np.nan)
        voxel = np.ones(label_map.ndim) if convention == "transunet" else sizes[order]
        if convention == "deepmind":
            surfaces = [surface_elements(m, num_classes, order, sizes) for m in (pred_map, label_map)]
        else:
            surfaces = [edge_voxels(m, num_classes) for m in (pred_map, label_map)]
        # between voxels there is one place more along each axis
        grid = tuple(n + (convention == "deepmind") for n in label_map.shape)
        search = Distances(grid, voxel)
        for index in np.flatnonzero((in_pred > 0) & (in_label > 0)):
            pair = surfaces[0][index], surfaces[1][index]
            distances = search.between(pair[0].places, pair[1].places)
            tolerance = np.inf if within is None else within[index]
            for name, value in zip(("hd95", "assd", "nsd"), _of_surfaces(pair, distances, tolerance, convention)):
                result[name][index] = value
    if convention == "transunet":
        for name, values in result.items():
            values[in_label == 0] = PERFECT[name]
            values[in_pred == 0] = 0.0
    result["volume_ml"] = np.stack([*(np.stack([in_pred, in_label, difference]) * (sizes.prod() / 1000)), percent])
    return {name: result[name] for name in names}


def _choose(metrics: Sequence[str] | str | None, ndim: int, tolerant: bool) -> tuple[str, ...]:
    if metrics is None:
        return ("dice", "hd95", *(("nsd",) if tolerant else ()), "assd", *(("volume_ml",) if ndim == 3 else ()))
    names = ensure_tuple(metrics)
    if "volume_ml" in names and ndim == 2:
        raise ValueError("monai_ext: metrics: 'volume_ml' needs maps (H, W, D); a slice (H, W) has no volume.")
    if "nsd" in names and not tolerant:
        raise ValueError("monai_ext: metrics: 'nsd' needs tolerances: one number in mm, or one for each class.")
    return names


def _of_surfaces(
    pair: tuple[Surface, Surface], distances: tuple[NDArray[np.float64], ...], tolerance: float, convention: str
) -> tuple[float, float, float]:
    """HD95, ASSD and NSD of two surfaces, from the distances there and back."""
    pooled = np.concatenate(distances)
    near = pooled.astype(np.float32) <= np.float32(tolerance)
    if convention == "deepmind":
        areas = [surface.weights for surface in pair if surface.weights is not None]
        weights = np.concatenate(areas)
        hd95 = max(_weighted_percentile(there, own) for there, own in zip(distances, areas))
        return hd95, float(np.average(pooled, weights=weights)), float(weights[near].sum() / weights.sum())
    if convention == "transunet":
        hd95 = float(np.percentile(pooled, 95))
    else:
        hd95 = float(max(np.percentile(there, 95) for there in distances))
    return hd95, float(pooled.mean()), float(near.mean())


def _weighted_percentile(distances: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The first distance by which 95 % of the weight is reached."""
    order = np.lexsort((weights, distances))
    reached = np.cumsum(weights[order]) / np.sum(weights[order])
    return float(distances[order[min(int(np.searchsorted(reached, 0.95)), len(order) - 1)]])


def _check_tolerances(tolerances: Sequence[float] | float, num_classes: int, convention: str) -> NDArray[np.float64]:
    if convention == "transunet":
        raise ValueError(
            "monai_ext: tolerances: the convention 'transunet' has no NSD, its distances count voxels. Use 'monai' or "
            "'deepmind'."
        )
    try:
        values = np.asarray(tolerances, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.ndim == 0:
        values = np.repeat(values, num_classes - 1)
    if values.shape != (num_classes - 1,) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(
            f"monai_ext: tolerances must be one positive number in mm, or {num_classes - 1} of them, one for each "
            f"class without the background; got {tolerances!r:.200}."
        )
    return values


def check_label_maps(
    pred: np.ndarray | torch.Tensor, label: np.ndarray | torch.Tensor, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The two as arrays of labels ``0 .. num_classes - 1`` on one grid; raises ValueError if they are not."""
    if num_classes < 2:
        raise ValueError(f"monai_ext: num_classes counts the background and must be at least 2, got {num_classes}.")
    pred_map, label_map = _as_label_map("pred", pred, num_classes), _as_label_map("label", label, num_classes)
    if pred_map.shape != label_map.shape:
        raise ValueError(f"monai_ext: pred and label must have one shape, got {pred_map.shape} and {label_map.shape}.")
    return pred_map, label_map


def _as_label_map(name: str, values: np.ndarray | torch.Tensor, num_classes: int) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype.kind not in "iub":
        raise ValueError(f"monai_ext: {name} must hold integer labels, got dtype {array.dtype}.")
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(f"monai_ext: {name} must be a label map (H, W) or (H, W, D), got shape {array.shape}.")
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"monai_ext: {name} must hold labels 0..{num_classes - 1} (num_classes={num_classes}), got {low} to {high}."
        )
    return array


def _check_spacing(spacing: Sequence[float] | float, ndim: int) -> NDArray[np.float64]:
    values = np.asarray(spacing, dtype=np.float64)
    if values.ndim == 0:
        values = np.repeat(values, ndim)
    if values.shape != (ndim,) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(
            f"monai_ext: spacing must be one positive number or {ndim} of them, one for each axis; got {spacing!r}."
        )
    return values


def _count_voxels(pred: np.ndarray, label: np.ndarray, num_classes: int) -> NDArray[np.int64]:
    """Return voxels by class in ``pred``, in ``label`` and in both, ``(3, num_classes)``; class 0 in part."""
    counts = np.zeros((3, num_classes), dtype=np.int64)
    for slab in slabs(label):
        p, q = pred[slab].reshape(-1), label[slab].reshape(-1)
        foreground = np.flatnonzero((p != 0) | (q != 0))
        if foreground.size == 0:
            continue
        p, q = p[foreground].astype(np.intp), q[foreground].astype(np.intp)
        counts += [np.bincount(values, minlength=num_classes) for values in (p, q, p[p == q])]
    return counts
