# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from .label_maps import check_label_maps

__all__ = ["MATCHES", "lesion_metrics"]

MATCHES = {
    "iou": "they share more than half of what either covers (IoU over 0.5), so that each is matched once",
    "half": "the predicted one covers at least half of the true one",
    "touch": "they have a voxel in common",
}


def lesion_metrics(
    pred: np.ndarray | torch.Tensor, label: np.ndarray | torch.Tensor, num_classes: int, match: str = "iou"
) -> dict[str, NDArray[np.float64]]:
    """Count the objects of each class, such as lesions, nuclei or glands, and how many of them were found.

    An object is what hangs together in a label map, over corners too: objects that touch count as one.

    Args:
        pred: predicted label map of an integer or boolean dtype, ``(H, W)`` or ``(H, W, D)``.
        label: true label map, of the same shape.
        num_classes: number of classes, background (0) included.
        match: when a true and a predicted object are one: ``"iou"``: IoU over 0.5; ``"half"``: the predicted one
            covers half of the true one; ``"touch"``: they have a voxel in common.

    Returns:
        Float64 arrays with one entry for each of classes ``1 .. num_classes - 1``: ``true`` and ``predicted`` objects,
        ``found`` among the true, ``false`` among the predicted (matched with none), and ``f1``, the harmonic mean of
        the shares of true objects found and of predicted ones that are not false; ``nan`` where there is no object at
        all.

    Raises:
        ValueError: if maps, ``num_classes`` or ``match`` are not as described.

    Examples::

        >>> label = np.zeros((64, 64), dtype=np.uint8)
        >>> label[5:15, 5:15] = label[30:40, 30:40] = 1
        >>> pred = label.copy()
        >>> pred[30:40, 30:40], pred[50:55, 50:55] = 0, 1
        >>> lesion_metrics(pred, label, num_classes=2)["f1"]
        array([0.5])
    """
    if match not in MATCHES:
        raise ValueError(f"monai_ext: match must be one of {', '.join(map(repr, MATCHES))}; got {match!r}.")
    maps = check_label_maps(pred, label, num_classes)
    rows = [_count(maps[0] == index, maps[1] == index, match) for index in range(1, num_classes)]
    names = ("f1", "true", "predicted", "found", "false")
    return dict(zip(names, np.array(rows, dtype=np.float64).T))


def _count(pred: NDArray[np.bool_], label: NDArray[np.bool_], match: str) -> tuple[float, ...]:
    corners = np.ones((3,) * label.ndim)
    (there, predicted), (truth, true) = (ndimage.label(m, corners) for m in (pred, label))
    both = pred & label
    pairs, shared = np.unique(np.stack([there[both], truth[both]]), axis=1, return_counts=True)
    if match != "touch":
        sizes = np.bincount(there[pred])[pairs[0]], np.bincount(truth[label])[pairs[1]]
        one = 2 * shared > sizes[0] + sizes[1] - shared if match == "iou" else 2 * shared >= sizes[1]
        pairs = pairs[:, one]
    right, found = (len(np.unique(objects)) for objects in pairs)
    if not true or not predicted:
        return (0.0 if true or predicted else np.nan, true, predicted, 0, predicted)
    precision, recall = right / predicted, found / true
    f1 = 2 * precision * recall / (precision + recall) if found else 0.0
    return (f1, true, predicted, found, predicted - right)
