# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_ext.transforms.score_labels import labels_of
from monai_ext.transforms.slice_resize import check_image_size, resize_slices

__all__ = ["neighbours", "upsampled_labels"]

MOSTLY_INNER = 0.3  # share of pixels near outlines above which interpolating all of them is no slower


def upsampled_labels(
    scores: torch.Tensor, size: Sequence[int] | int, regions: Sequence[int] | None = None
) -> torch.Tensor:
    """The arg-max of scores interpolated to ``size``, interpolating only where the outcome is open.

    A pixel's interpolated scores are a mean of the four around it, with weights of 0 or more: where all four have one
    class highest, so has the mean. Only pixels whose four neighbours differ, the outlines, are interpolated. The labels
    are those of ``arg_max(resize_slices(scores, size, "bilinear"))``, but for scores that rounding makes equal. So
    it is with regions: where the same one is the last above 0 in all four, it is so in the mean.

    Args:
        scores: logits or probabilities ``(N, K, h, w)``.
        size: height and width of the labels, or one number for both.
        regions: see :func:`~monai_ext.inferers.outputs.labels_of`.

    Returns:
        Labels ``(N, 1, *size)``.

    Examples::

        >>> upsampled_labels(torch.rand(24, 9, 224, 224), (512, 512)).shape
        torch.Size([24, 1, 512, 512])
    """
    height, width = check_image_size(size)
    if scores.device.type != "cpu" or (height, width) == scores.shape[2:]:
        return labels_of(resize_slices(scores, (height, width), "bilinear"), regions=regions)
    labels = labels_of(scores, regions=regions)[:, 0]
    above, below, down = neighbours(scores.shape[2], height, scores.dtype)
    left, right, across = neighbours(scores.shape[3], width, scores.dtype)
    beside = labels.roll(-1, 2)
    beside[:, :, -1] = labels[:, :, -1]
    open_ = beside != labels
    open_[:, :-1] |= (labels[:, 1:] != labels[:, :-1]) | (beside[:, 1:] != beside[:, :-1])
    at = open_.index_select(1, above).index_select(2, left).nonzero(as_tuple=True)
    if len(at[0]) > MOSTLY_INNER * len(labels) * height * width:
        return labels_of(resize_slices(scores, (height, width), "bilinear"), regions=regions)
    result = labels.index_select(1, above).index_select(2, left)
    n, y, x = at
    top, bottom, near, far = above[y], below[y], left[x], right[x]
    channels_last = scores.movedim(1, -1)
    down, across = down[y, None], across[x, None]
    upper = channels_last[n, top, near].lerp_(channels_last[n, top, far], across)
    lower = channels_last[n, bottom, near].lerp_(channels_last[n, bottom, far], across)
    result[n, y, x] = labels_of(upper.lerp_(lower, down), regions=regions)[:, 0]
    return result[:, None]


def neighbours(length: int, new_length: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each new pixel: the old one before it, the one behind it, and how far it is on the way (corners aligned)."""
    step = torch.tensor((length - 1) / (new_length - 1) if new_length > 1 else 0.0, dtype=dtype)
    place = torch.arange(new_length, dtype=dtype) * step
    before = place.long().clamp_(max=length - 1)
    return before, (before + 1).clamp_(max=length - 1), place - before
