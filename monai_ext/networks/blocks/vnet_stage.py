# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Act, Conv, Norm

__all__ = ["VNetDownStage", "VNetInputStage", "VNetUpStage"]


def _chain(spatial_dims: int, in_channels: int, channels: int, length: int) -> nn.Sequential:
    """``length`` 5-wide convolutions, all but the last with batch norm and PReLU."""
    chain = nn.Sequential()
    for i in range(length):
        last = i == length - 1
        chain.append(
            Convolution(spatial_dims, in_channels, channels, kernel_size=5, act="PRELU", norm="BATCH", conv_only=last)
        )
        in_channels = channels
    return chain


class VNetInputStage(nn.Module):
    """First stage of V-Net [1]_ as in the Dual Cross-Attention paper [2]_.

    The way down carries the convolved image alone; only the second output has the image's 1x1 projection added.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of both outputs.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: the activated map and the raw residual sum, each ``(B, out_channels, *spatial)``

    .. [1] Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation",
        arXiv:1606.04797.
    .. [2] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _chain(spatial_dims, in_channels, out_channels, 1)
        self.project = Conv["CONV", spatial_dims](in_channels, out_channels, 1)
        self.norm = Norm["BATCH", spatial_dims](out_channels)
        self.act = Act["PRELU"]()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return self.act(self.norm(y)), y + self.project(x)


class VNetDownStage(nn.Module):
    """Halve the size, convolve ``length`` times, add the halved input: a stage of V-Net's left side.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of both outputs.
        length: number of 5-wide convolutions.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: the activated map and the raw residual sum, each ``(B, out_channels, *(spatial / 2))``
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, length: int) -> None:
        super().__init__()
        self.down = Conv["CONV", spatial_dims](in_channels, out_channels, 2, stride=2)
        self.conv = _chain(spatial_dims, out_channels, out_channels, length)
        self.norm = Norm["BATCH", spatial_dims](out_channels)
        self.act = Act["PRELU"]()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.down(x)
        raw = x + self.conv(x)
        return self.act(self.norm(raw)), raw


class VNetUpStage(nn.Module):
    """Double the size, convolve with the skip, add the doubled input: a stage of V-Net's right side.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the coarse map.
        out_channels: channels of the skip and of the output.
        length: number of 5-wide convolutions.

    Shape:
        - x: ``(B, in_channels, *(spatial / 2))``
        - skip, output: ``(B, out_channels, *spatial)``
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, length: int) -> None:
        super().__init__()
        self.up = Conv["CONVTRANS", spatial_dims](in_channels, out_channels, 2, stride=2)
        self.up_norm = Norm["BATCH", spatial_dims](out_channels)
        self.up_act = Act["PRELU"]()
        self.conv = _chain(spatial_dims, 2 * out_channels, out_channels, length)
        self.norm = Norm["BATCH", spatial_dims](out_channels)
        self.act = Act["PRELU"]()

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        y = self.conv(torch.cat([skip, self.up_act(self.up_norm(x))], dim=1))
        return self.act(self.norm(x + y))
