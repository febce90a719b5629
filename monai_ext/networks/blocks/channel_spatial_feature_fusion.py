# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution

from monai_ext.networks.blocks.channel_attention import ChannelAttention
from monai_ext.networks.blocks.spatial_attention import SpatialAttention
from monai_ext.networks.utils import check_spatial_dims

__all__ = ["ChannelSpatialFeatureFusion"]


class ChannelSpatialFeatureFusion(nn.Module):
    """Fuse a skip map and an up-sampled decoder map, then weight the result by channel and by position.

    Equations (11)-(19) of DCAU-Net [1]_: both inputs are refined, concatenated and fused; channel attention, then
    spatial attention weight the result. The paper leaves the fusion's kernels open; two 3x3 convolutions, as in a
    U-Net, give its published parameter and operation counts.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of both inputs and of the output.
        reduction: the channel attention's hidden width is ``channels // reduction``.
        channel_attention: ``False`` is "w/o channel attention" of Table V.
        spatial_attention: ``False`` is "w/o spatial attention" of Table V.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3.

    Shape:
        - skip, up: ``(B, channels, *spatial)``, equal to each other
        - output: the same

    Examples::

        >>> fuse = ChannelSpatialFeatureFusion(spatial_dims=2, channels=64)
        >>> fuse(torch.rand(1, 64, 56, 56), torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Li et al., "DCAU-Net", arXiv:2603.09530.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        reduction: int = 16,
        channel_attention: bool = True,
        spatial_attention: bool = True,
    ) -> None:
        super().__init__()
        check_spatial_dims("ChannelSpatialFeatureFusion", spatial_dims)

        def conv(in_channels: int) -> Convolution:
            return Convolution(
                spatial_dims, in_channels, channels, adn_ordering="NA", norm="BATCH", act="RELU", bias=False
            )

        self.refine_skip = conv(channels)
        self.refine_up = conv(channels)
        self.fuse = nn.Sequential(conv(2 * channels), conv(channels))
        self.channel_attention = (
            ChannelAttention(spatial_dims, channels, reduction) if channel_attention else nn.Identity()
        )
        self.spatial_attention = SpatialAttention(spatial_dims) if spatial_attention else nn.Identity()

    def forward(self, skip: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        fused = self.fuse(torch.cat([self.refine_skip(skip), self.refine_up(up)], dim=1))  # (11)-(13)
        return self.spatial_attention(self.channel_attention(fused))  # (14)-(16), then (17)-(19)
