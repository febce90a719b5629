# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Pool

from .conv_norm_silu import ConvNormSiLU

__all__ = ["SPPF"]


class SPPF(nn.Module):
    """Spatial pyramid pooling, the fast way [1]_: one 5-wide maximum, applied once, twice and three times.

    A 1x1 unit halves the channels; the result and its three maxima (which look 5, 9 and 13 positions wide) go through
    another 1x1 unit.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output, even.

    Raises:
        ValueError: for odd ``channels``.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> SPPF(2, 256)(torch.rand(2, 256, 8, 8)).shape
        torch.Size([2, 256, 8, 8])

    .. [1] Ultralytics YOLOv8, as used by QTSeg, arXiv:2412.17241.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"monai_ext: {type(self).__name__}: channels must be even, got {channels}.")
        self.reduce = ConvNormSiLU(spatial_dims, channels, channels // 2)
        self.pool = Pool["MAX", spatial_dims](5, stride=1, padding=2)
        self.merge = ConvNormSiLU(spatial_dims, 2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maxima = [self.reduce(x)]
        for _ in range(3):
            maxima.append(self.pool(maxima[-1]))
        return self.merge(torch.cat(maxima, dim=1))
