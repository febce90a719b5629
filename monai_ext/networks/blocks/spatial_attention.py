# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv

__all__ = ["SpatialAttention"]


class SpatialAttention(nn.Module):
    """Weight each position by what its channels hold: the spatial half of CBAM [1]_.

    A convolution without bias reads the mean and the maximum over channels; its sigmoid multiplies the input.
    DCAU-Net's equations (17)-(19), EMCAD's "SAB" and QTSeg's spatial gate are this block.

    Args:
        spatial_dims: 2 or 3.
        kernel_size: side of the convolution, odd.

    Shape:
        - input, output: ``(B, C, *spatial)`` for any ``C``

    Examples::

        >>> SpatialAttention(2)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Woo et al., "CBAM: Convolutional Block Attention Module", arXiv:1807.06521.
    """

    def __init__(self, spatial_dims: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = Conv["CONV", spatial_dims](2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """The weight of each position, ``(B, 1, *spatial)``."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(summary))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)
