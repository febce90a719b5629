# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.nets.basic_unet import TwoConv

from monai_ext.networks.utils import check_spatial_dims

__all__ = ["ConcatenationFusion"]


class ConcatenationFusion(nn.Module):
    """Fuse a skip map and an up-sampled decoder map as U-Net does: concatenate, then convolve twice.

    The baseline that DCAU-Net's Table V compares :class:`ChannelSpatialFeatureFusion` with.

    Args:
        spatial_dims: 2 or 3.
        skip_channels: channels of the skip map and of the output.
        up_channels: channels of the decoder map.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3.

    Shape:
        - skip: ``(B, skip_channels, *spatial)``
        - up: ``(B, up_channels, *spatial)``
        - output: ``(B, skip_channels, *spatial)``

    Examples::

        >>> ConcatenationFusion(2, 64, 128)(torch.rand(1, 64, 56, 56), torch.rand(1, 128, 56, 56)).shape
        torch.Size([1, 64, 56, 56])
    """

    def __init__(self, spatial_dims: int, skip_channels: int, up_channels: int) -> None:
        super().__init__()
        check_spatial_dims("ConcatenationFusion", spatial_dims)
        self.convs = TwoConv(
            spatial_dims, skip_channels + up_channels, skip_channels, act="RELU", norm="BATCH", bias=False
        )

    def forward(self, skip: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return self.convs(torch.cat([skip, up], dim=1))
