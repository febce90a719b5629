# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv, Norm

__all__ = ["PreActivationResidual"]


class PreActivationResidual(nn.Module):
    """Twice norm, ReLU and 3x3 convolution, beside a 1x1 convolution: the residual unit of ResUNet++ [1]_.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first and of the 1x1 convolution.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *(spatial / stride))``

    Examples::

        >>> PreActivationResidual(2, 32, 64, stride=2)(torch.rand(1, 32, 56, 56)).shape
        torch.Size([1, 64, 28, 28])

    .. [1] Jha et al., "ResUNet++: An Advanced Architecture for Medical Image Segmentation", arXiv:1911.07067.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        conv, norm = Conv["CONV", spatial_dims], Norm["BATCH", spatial_dims]
        self.norm1 = norm(in_channels)
        self.conv1 = conv(in_channels, out_channels, 3, stride=stride, padding=1)
        self.norm2 = norm(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1)
        self.skip = conv(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return self.conv2(torch.relu(self.norm2(y))) + self.skip(x)
