# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import DropPath

from monai_ext.networks.blocks.channel_layer_norm import ChannelLayerNorm
from monai_ext.networks.blocks.depthwise_mlp import DepthwiseMLP
from monai_ext.networks.blocks.spatial_reduction_attention import SpatialReductionAttention
from monai_ext.networks.paths import TwoPaths

__all__ = ["PVTBlock"]


class PVTBlock(TwoPaths):
    """One transformer block of PVT v2 [1]_: attention, then MLP, each behind a norm and inside a residual.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output, a multiple of ``num_heads``.
        num_heads: number of heads.
        mlp_ratio: the MLP's hidden width is ``mlp_ratio * channels``.
        reduction: side of the patches that keys and values come from, one number or one per axis.
        drop_path: probability that a sample skips a residual branch while training.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, ``channels`` is no multiple of ``num_heads``, or
            ``drop_path`` is outside [0, 1].

    Shape:
        - input, output: ``(B, channels, *spatial)``, each side at least ``reduction``

    Examples::

        >>> PVTBlock(2, 64, num_heads=1, mlp_ratio=8, reduction=8)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", arXiv:2106.13797.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        num_heads: int,
        mlp_ratio: int = 4,
        reduction: int | Sequence[int] = 1,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(channels, eps=1e-6)
        self.attention = SpatialReductionAttention(spatial_dims, channels, num_heads, reduction)
        self.norm2 = ChannelLayerNorm(channels, eps=1e-6)
        self.mlp = DepthwiseMLP(spatial_dims, channels, mlp_ratio * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
