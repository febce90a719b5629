# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Norm

__all__ = ["MultiResBlock"]


class MultiResBlock(nn.Module):
    """Three 3x3 convolutions in a row, all outputs concatenated, beside a 1x1 convolution: MultiResUNet's block [1]_.

    Of ``alpha * features`` channels the convolutions get about 1/6, 1/3 and 1/2.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        features: channels of the U-Net level that the block stands in for.
        alpha: width relative to it.

    Attributes:
        out_channels: channels of the output.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *spatial)``

    Examples::

        >>> MultiResBlock(2, 1, 32)(torch.rand(1, 1, 64, 64)).shape
        torch.Size([1, 51, 64, 64])

    .. [1] Ibtehaz and Rahman, "MultiResUNet: Rethinking the U-Net Architecture for Multimodal Biomedical Image
        Segmentation", arXiv:1902.04049.
    """

    def __init__(self, spatial_dims: int, in_channels: int, features: int, alpha: float = 1.67) -> None:
        super().__init__()
        widths = [int(alpha * features * share) for share in (0.167, 0.333, 0.5)]
        self.out_channels = sum(widths)
        self.convs = nn.ModuleList()
        channels = in_channels
        for width in widths:
            self.convs.append(Convolution(spatial_dims, channels, width, act="RELU", norm="BATCH"))
            channels = width
        self.norm = Norm["BATCH", spatial_dims](self.out_channels)
        self.skip = Convolution(spatial_dims, in_channels, self.out_channels, kernel_size=1, act=None, norm="BATCH")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.skip(x)
        outputs: list[torch.Tensor] = []
        for conv in self.convs:
            x = conv(x)
            outputs.append(x)
        return torch.relu(self.norm(torch.cat(outputs, dim=1)) + shortcut)
