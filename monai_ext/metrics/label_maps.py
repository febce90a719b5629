# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import ensure_tuple
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["label_metrics"]

CONVENTIONS = ("monai", "transunet")
METRICS = ("dice", "hd95", "iou", "assd")
SLAB_VOXELS = 1 << 19  # what is looked at together stays in the processor's cache


def label_metrics(
    pred: np.ndarray | torch.Tensor,
    label: np.ndarray | torch.Tensor,
    num_classes: int,
    spacing: Sequence[float] | float = 1.0,
    convention: str = "monai",
    metrics: Sequence[str] | str = ("dice", "hd95"),
) -> dict[str, NDArray[np.float64]]:
    """Compare two label maps class by class: Dice, HD95, and on request IoU and ASSD.

    The maps are never one-hot encoded. One pass counts the voxels of all classes, one finds all edges: a voxel is on
    the edge of its class if one of its 6 neighbours (4 in 2D) has another label or lies outside. Distances come from a
    k-d tree per class over edge voxels only, so neither many classes nor stray voxels far away cost more than their
    edges, and beyond the maps memory is taken for these alone. ``torch.get_num_threads()`` threads search the trees.

    Results differ between papers because conventions do, so the convention has a name:

    ``"monai"``
        Distances in the units of ``spacing``; HD95 is the maximum of the two directed 95th percentiles. Equals
        ``monai.metrics.compute_hausdorff_distance(percentile=95)`` and
        ``compute_average_surface_distance(symmetric=True)`` where both maps hold the class. A class in one map only has
        Dice and IoU 0, HD95 and ASSD ``inf``: a missed organ stays visible, and a mean over it is ``inf`` rather than
        better than without it. A class in neither map is ``nan`` throughout: there was nothing to measure.
    ``"transunet"``
        The numbers of the papers that follow TransUNet's evaluation, EMCAD's tables among them: distances in voxels
        (``spacing`` is checked, not used); HD95 is the 95th percentile of both directions' distances pooled, as in
        MedPy. If the prediction lacks the class, all is 0, missed organ or not; if only the truth lacks it, Dice and
        IoU are 1, HD95 and ASSD are 0. A missed organ therefore *improves* the mean HD95.

    Args:
        pred: predicted label map of any integer (or boolean) dtype, ``(H, W)`` or ``(H, W, D)`` without batch or
            channel axis. Tensors on a GPU are copied to the CPU once.
        label: true label map, of the same shape.
        num_classes: number of classes, background (0) included; values lie in ``0 .. num_classes - 1``.
        spacing: voxel size along each axis, or one number for all.
        convention: ``"monai"`` or ``"transunet"``.
        metrics: names among ``"dice"``, ``"hd95"``, ``"iou"`` and ``"assd"`` (average symmetric surface distance).

    Returns:
        For each name in ``metrics`` a float64 array with one entry for each of classes ``1 .. num_classes - 1``.

    Raises:
        ValueError: if dtypes, shapes, labels, ``spacing``, ``convention`` or ``metrics`` are not as described.

    Examples::

        >>> label = np.zeros((64, 64, 32), dtype=np.uint8)
        >>> label[20:40, 20:40, 10:20] = 1
        >>> label_metrics(np.roll(label, 1, axis=2), label, num_classes=3, spacing=(0.8, 0.8, 3.0))
        {'dice': array([0.9, nan]), 'hd95': array([ 3., nan])}
    """
    names = ensure_tuple(metrics)
    for name in names:
        if name not in METRICS:
            raise ValueError(f"monai_ext: metrics must be among {', '.join(map(repr, METRICS))}; got {name!r}.")
    if convention not in CONVENTIONS:
        raise ValueError(
            f"monai_ext: convention must be one of {', '.join(map(repr, CONVENTIONS))}; got {convention!r}."
        )
    if num_classes < 2:
        raise ValueError(f"monai_ext: num_classes counts the background and must be at least 2, got {num_classes}.")
    pred_map, label_map = _as_label_map("pred", pred, num_classes), _as_label_map("label", label, num_classes)
    if pred_map.shape != label_map.shape:
        raise ValueError(f"monai_ext: pred and label must have one shape, got {pred_map.shape} and {label_map.shape}.")
    voxel = _check_spacing(spacing, label_map.ndim)
    if convention == "transunet":
        voxel = np.ones_like(voxel)

    # walk through memory in its own order: files of NIfTI arrive with the first axis fastest
    order = np.argsort([-abs(stride) for stride in label_map.strides], kind="stable")
    pred_map, label_map, voxel = pred_map.transpose(order), label_map.transpose(order), voxel[order]

    in_pred, in_label, in_both = _count_voxels(pred_map, label_map, num_classes)[:, 1:]
    with np.errstate(invalid="ignore"):  # 0 / 0 is the nan of a class that neither map holds
        result = {"dice": 2.0 * in_both / (in_pred + in_label), "iou": in_both / (in_pred + in_label - in_both)}
    if not {"hd95", "assd"}.isdisjoint(names):
        one_missing = (in_pred == 0) != (in_label == 0)
        result["hd95"] = np.where(one_missing, np.inf, np.nan)
        result["assd"] = result["hd95"].copy()
        pred_edges, label_edges = _edges_by_class(pred_map, num_classes), _edges_by_class(label_map, num_classes)
        for index in np.flatnonzero((in_pred > 0) & (in_label > 0)):
            edges = pred_edges[index], label_edges[index]
            there = _nearest_distances(*edges, label_map.shape, voxel)
            back = _nearest_distances(*edges[::-1], label_map.shape, voxel)
            pooled = np.concatenate([there, back])
            if convention == "monai":
                result["hd95"][index] = max(np.percentile(there, 95), np.percentile(back, 95))
            else:
                result["hd95"][index] = np.percentile(pooled, 95)
            result["assd"][index] = pooled.mean()
    if convention == "transunet":
        for name, values in result.items():
            values[in_label == 0] = 1.0 if name in ("dice", "iou") else 0.0
            values[in_pred == 0] = 0.0
    return {name: result[name] for name in names}


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
    thickness = max(1, SLAB_VOXELS // label[0].size)
    for start in range(0, len(label), thickness):
        slab = slice(start, start + thickness)
        p, q = pred[slab].reshape(-1), label[slab].reshape(-1)
        foreground = np.flatnonzero((p != 0) | (q != 0))
        if foreground.size == 0:
            continue
        p, q = p[foreground].astype(np.intp), q[foreground].astype(np.intp)
        counts += [np.bincount(values, minlength=num_classes) for values in (p, q, p[p == q])]
    return counts


def _edges_by_class(labels: np.ndarray, num_classes: int) -> list[NDArray[np.intp]]:
    """Return for each class but the background the flat indices, ascending, of the voxels on its border."""
    thickness = max(1, SLAB_VOXELS // labels[0].size)
    indices, classes = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=labels.dtype)]
    for start in range(0, len(labels), thickness):
        stop = min(start + thickness, len(labels))
        low = max(start - 1, 0)
        slab = labels[low : stop + 1]  # with a neighbour plane on either side
        if not slab.any():
            continue
        edge = np.zeros(slab.shape, dtype=bool)
        for axis in range(labels.ndim):
            along, mark = np.moveaxis(slab, axis, 0), np.moveaxis(edge, axis, 0)
            differs = along[1:] != along[:-1]
            mark[1:] |= differs
            mark[:-1] |= differs
            mark[0] = mark[-1] = True  # the outside is background; of neighbour planes this says nothing, they are cut
        edge &= slab != 0
        own = slice(start - low, stop - low)
        found = np.flatnonzero(edge[own])
        indices.append(found + start * labels[0].size)
        classes.append(slab[own].reshape(-1)[found])
    all_indices, all_classes = np.concatenate(indices), np.concatenate(classes).astype(np.intp)
    by_class = all_indices[np.argsort(all_classes, kind="stable")]
    ends = np.cumsum(np.bincount(all_classes, minlength=num_classes)[1:])
    return np.split(by_class, ends[:-1])


def _nearest_distances(
    source: NDArray[np.intp], target: NDArray[np.intp], shape: tuple[int, ...], voxel: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance from every voxel of ``source`` to the nearest of ``target``, both flat indices."""
    distances = np.zeros(len(source))
    apart = np.isin(source, target, assume_unique=True, invert=True)  # common voxels, often half, need no search
    if apart.any():
        points = [np.stack(np.unravel_index(index, shape), axis=1) * voxel for index in (target, source[apart])]
        # a tree that is asked once is better built fast than balanced
        tree = cKDTree(points[0], leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[apart] = tree.query(points[1], workers=torch.get_num_threads())[0]
    return distances
