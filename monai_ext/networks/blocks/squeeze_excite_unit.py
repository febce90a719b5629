# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Norm

from monai_ext.networks.blocks.squeeze_excite import SqueezeExcite

__all__ = ["SqueezeExciteUnit"]


class SqueezeExciteUnit(nn.Module):
    """Two 3x3 convolutions and squeeze-and-excitation: the unit of DoubleU-Net [1]_.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of both outputs, at least 8.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: the unit's output, and the second convolution's before norm, each ``(B, out_channels, *spatial)``

    Examples::

        >>> out, raw = SqueezeExciteUnit(2, 3, 32)(torch.rand(1, 3, 64, 64))
        >>> out.shape
        torch.Size([1, 32, 64, 64])

    .. [1] Jha et al., "DoubleU-Net: A Deep Convolutional Neural Network for Medical Image Segmentation",
        arXiv:2006.04868.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            Convolution(spatial_dims, in_channels, out_channels, act="RELU", norm="BATCH"),
            Convolution(spatial_dims, out_channels, out_channels, conv_only=True),
        )
        self.norm = Norm["BATCH", spatial_dims](out_channels)
        self.squeeze_excite = SqueezeExcite(out_channels, reduction=8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.conv(x)
        return self.squeeze_excite(torch.relu(self.norm(raw))), raw
