# SPDX-License-Identifier: Apache-2.0
"""What of two label maps is compared: regions in place of values, and nothing where nobody has looked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.handlers import from_engine

__all__ = ["compared_labels", "region_masks", "without_ignored"]


def without_ignored(pred: torch.Tensor, label: torch.Tensor, ignore: int = 255) -> tuple[torch.Tensor, torch.Tensor]:
    """Both label maps with background where the truth is ``ignore``: what is there changes no score of a class.

    Examples::

        >>> without_ignored(torch.tensor([1, 2, 1]), torch.tensor([1, 255, 0]))
        (tensor([1, 0, 1]), tensor([1, 0, 0]))
    """
    left_out = torch.as_tensor(label == ignore).as_subclass(torch.Tensor)
    if not left_out.any():
        return pred, label
    return pred.masked_fill(left_out.to(pred.device), 0), label.masked_fill(left_out, 0)


def region_masks(labels: torch.Tensor, regions: Sequence[Sequence[int]]) -> torch.Tensor:
    """A mask of each region, ``(R, *spatial)``, uint8, of a label map ``(1, *spatial)``; they may overlap.

    Examples::

        >>> region_masks(torch.tensor([[0, 1, 2]]), [[1, 2], [2]])
        tensor([[0, 1, 1],
                [0, 0, 1]], dtype=torch.uint8)
    """
    plain = torch.as_tensor(labels).as_subclass(torch.Tensor)
    return torch.cat([torch.isin(plain, plain.new_tensor(values)) for values in regions]).to(torch.uint8)


def compared_labels(
    regions: Sequence[Sequence[int]] | None = None, keys: Sequence[str] = ("pred", "label")
) -> Callable[[Sequence[Mapping[str, Any]]], tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """An ``output_transform`` for MONAI's metrics: predictions and truths without what is ignored, as regions if any.

    Args:
        regions: label values of each region; None or empty where labels are classes.
        keys: of the prediction and the truth in an engine's output.

    Examples::

        {"_target_": "MeanDice", "include_background": true,
         "output_transform": "$monai_ext.metrics.compared_labels(@regions)"}
    """
    read = from_engine(list(keys))

    def transform(output: Sequence[Mapping[str, Any]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        pairs = [without_ignored(pred, label) for pred, label in zip(*read(output), strict=True)]
        if regions:
            pairs = [(region_masks(pred, regions), region_masks(label, regions)) for pred, label in pairs]
        return [pred for pred, _ in pairs], [label for _, label in pairs]

    return transform
