# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv, Norm

from monai_ext.networks.utils import check_spatial_dims

__all__ = ["EUCB"]


class EUCB(nn.Module):
    """Double the resolution of a map and change its width, at the cost of a depth-wise convolution.

    EMCAD's efficient up-convolution block [1]_: nearest-neighbour up-sampling, a 3x3 depth-wise convolution, and a 1x1
    convolution to the new width.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *doubled)``

    Examples::

        >>> EUCB(2, 512, 320)(torch.rand(2, 512, 7, 7)).shape
        torch.Size([2, 320, 14, 14])

    .. [1] Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image
       Segmentation", arXiv:2405.06880.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_spatial_dims("EUCB", spatial_dims)
        conv, norm = Conv["CONV", spatial_dims], Norm["BATCH", spatial_dims]
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            conv(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            norm(in_channels),
            nn.ReLU(),
        )
        self.project = conv(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(self.up(x))
