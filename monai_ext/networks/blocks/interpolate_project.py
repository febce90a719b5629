# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv, Norm

from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

__all__ = ["InterpolateProject"]


class InterpolateProject(TwoPaths):
    """Double the resolution by linear interpolation, then map to fewer channels by a 1x1 convolution and batch norm.

    Interpolation treats channels alike and its weights sum to one, so it commutes with a 1x1 convolution: the fast path
    convolves before it, at a quarter (3D: an eighth) of the positions.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *(2 * spatial))``

    Examples::

        >>> InterpolateProject(2, 128, 64)(torch.rand(1, 128, 28, 28)).shape
        torch.Size([1, 64, 56, 56])
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_spatial_dims("InterpolateProject", spatial_dims)
        mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.interpolate = nn.Upsample(scale_factor=2, mode=mode, align_corners=False)
        self.conv = Conv["CONV", spatial_dims](in_channels, out_channels, 1, bias=False)
        self.norm = Norm["BATCH", spatial_dims](out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.interpolate(self.conv(x)) if self.fast else self.conv(self.interpolate(x))
        return self.norm(x)
