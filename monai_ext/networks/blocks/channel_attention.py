# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv, Pool

__all__ = ["ChannelAttention"]


class ChannelAttention(nn.Module):
    """Weight each channel by what it holds anywhere: the channel half of CBAM [1]_.

    One MLP of two 1x1 convolutions without bias reads the global average and the global maximum; the sigmoid of the
    sum multiplies the input. DCAU-Net's equations (14)-(16) and EMCAD's "CAB" are this block.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output.
        reduction: the MLP's hidden width is ``channels // reduction``; channels below it keep their number.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> ChannelAttention(2, 64)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Woo et al., "CBAM: Convolutional Block Attention Module", arXiv:1807.06521.
    """

    def __init__(self, spatial_dims: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // min(reduction, channels)
        self.average = Pool["ADAPTIVEAVG", spatial_dims](1)
        self.maximum = Pool["ADAPTIVEMAX", spatial_dims](1)
        self.fc1 = Conv["CONV", spatial_dims](channels, hidden, 1, bias=False)
        self.fc2 = Conv["CONV", spatial_dims](hidden, channels, 1, bias=False)

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.mlp(self.average(x)) + self.mlp(self.maximum(x)))
