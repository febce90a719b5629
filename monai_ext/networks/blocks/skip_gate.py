# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv, Norm, Pool

__all__ = ["SkipGate"]


class SkipGate(nn.Module):
    """Multiply a decoder map by one weight per position that the finer skip and the map itself suggest.

    The attention block of ResUNet++ [1]_. The weight is the plain output of a 1x1 convolution, without sigmoid.

    Args:
        spatial_dims: 2 or 3.
        skip_channels: channels of the skip.
        in_channels: channels of the decoder map and of the output.

    Shape:
        - skip: ``(B, skip_channels, *(2 * spatial))``
        - x, output: ``(B, in_channels, *spatial)``

    Examples::

        >>> SkipGate(2, 128, 512)(torch.rand(1, 128, 56, 56), torch.rand(1, 512, 28, 28)).shape
        torch.Size([1, 512, 28, 28])

    .. [1] Jha et al., "ResUNet++: An Advanced Architecture for Medical Image Segmentation", arXiv:1911.07067.
    """

    def __init__(self, spatial_dims: int, skip_channels: int, in_channels: int) -> None:
        super().__init__()
        conv, norm = Conv["CONV", spatial_dims], Norm["BATCH", spatial_dims]
        self.skip_norm = norm(skip_channels)
        self.skip_conv = conv(skip_channels, in_channels, 3, padding=1)
        self.pool = Pool["MAX", spatial_dims](2)
        self.norm = norm(in_channels)
        self.conv = conv(in_channels, in_channels, 3, padding=1)
        self.weight_norm = norm(in_channels)
        self.weight_conv = conv(in_channels, 1, 1)

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        suggestion = self.pool(self.skip_conv(torch.relu(self.skip_norm(skip))))
        suggestion = suggestion + self.conv(torch.relu(self.norm(x)))
        return x * self.weight_conv(torch.relu(self.weight_norm(suggestion)))
