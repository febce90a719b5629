# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv, Norm

from monai_ext.networks.utils import check_spatial_dims

__all__ = ["LGAG"]


class LGAG(nn.Module):
    """Let the coarser level decide, position by position, how much of a skip map passes.

    EMCAD's large-kernel grouped attention gate [1]_: attention U-Net's gate, with 3x3 convolutions over pairs of
    channels in place of full 1x1 ones.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of both inputs and of the output, even.
        kernel_size: side of the grouped convolutions, odd.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, or ``channels`` is odd.

    Shape:
        - gate, skip: ``(B, channels, *spatial)``, equal to each other
        - output: the same

    Examples::

        >>> LGAG(2, 64)(torch.rand(2, 64, 56, 56), torch.rand(2, 64, 56, 56)).shape
        torch.Size([2, 64, 56, 56])

    .. [1] Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image
       Segmentation", arXiv:2405.06880.
    """

    def __init__(self, spatial_dims: int, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        check_spatial_dims("LGAG", spatial_dims)
        if channels % 2:
            raise ValueError(f"monai_ext: LGAG: channels must be even, got {channels}.")
        conv, norm = Conv["CONV", spatial_dims], Norm["BATCH", spatial_dims]
        half = channels // 2

        def grouped() -> nn.Sequential:
            return nn.Sequential(conv(channels, half, kernel_size, padding=kernel_size // 2, groups=half), norm(half))

        self.from_gate = grouped()
        self.from_skip = grouped()
        self.score = nn.Sequential(conv(half, 1, 1), norm(1))

    def forward(self, gate: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        score = self.score(torch.relu(self.from_gate(gate) + self.from_skip(skip)))
        return skip * torch.sigmoid(score)
