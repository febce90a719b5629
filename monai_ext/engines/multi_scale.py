# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.engines import PrepareBatch, default_prepare_batch

__all__ = ["PrepareBatchMultiScale"]


class PrepareBatchMultiScale(PrepareBatch):
    """Give the network each batch at a size drawn from a few scales, for ``SupervisedTrainer(prepare_batch=...)``.

    EMCAD [1]_ and other polyp networks train at 0.75, 1 and 1.25 times the input size. They take a step at every scale
    with every batch; here a step takes one of them, so that an epoch costs the same.

    Args:
        scales: factors of the size, one of which is drawn for every batch with PyTorch's generator.
        multiple: sides are rounded to a multiple of this, as the network's strides ask.

    Shape:
        - image: ``(B, C, *spatial)``, resized bilinearly
        - label: ``(B, 1, *spatial)`` classes, resized to the nearest

    .. [1] Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image
       Segmentation", arXiv:2405.06880.

    Raises:
        ValueError: if there is no scale, or one is not positive.
    """

    def __init__(self, scales: Sequence[float] = (0.75, 1.0, 1.25), multiple: int = 32) -> None:
        if not scales or min(scales) <= 0:
            raise ValueError(f"monai_ext: PrepareBatchMultiScale: scales must be positive numbers, got {scales!r}.")
        self.scales = tuple(scales)
        self.multiple = multiple

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = default_prepare_batch(batchdata, device, non_blocking, **kwargs)
        if label is None:
            raise ValueError("monai_ext: PrepareBatchMultiScale: the batch has no label.")
        scale = self.scales[int(torch.randint(len(self.scales), ()))]
        size = [max(1, round(scale * side / self.multiple)) * self.multiple for side in image.shape[2:]]
        if size == list(image.shape[2:]):
            return image, label
        mode = "bilinear" if len(size) == 2 else "trilinear"
        return F.interpolate(image, size=size, mode=mode), F.interpolate(label, size=size, mode="nearest-exact")
