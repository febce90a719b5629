# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.networks.blocks import MLPBlock
from monai.networks.layers.factories import Conv

from monai_ext.networks.blocks.channel_layer_norm import ChannelLayerNorm
from monai_ext.networks.blocks.differential_cross_attention import DifferentialCrossAttention
from monai_ext.networks.blocks.window_cross_attention import WindowCrossAttention
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_option, check_spatial_dims

__all__ = ["DCABlock"]


class DCABlock(TwoPaths):
    """Mix neighbours, then the whole map, then channels: the encoder block of DCAU-Net.

    Equations (8)-(10) of [1]_: a depth-wise 3x3 convolution, differential cross attention and an MLP, each with a
    residual connection.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output, a multiple of ``head_dim``.
        head_dim: channels of one attention head.
        window_size: side of the windows whose means are the keys.
        attention: ``"differential"``, or ``"standard"`` for one softmax map ("standard attention" of Table IV).
        lambda_init: constant part of the differential attention's lambda.
        norm_position: ``"pre"`` normalises what attention and MLP read; ``"post"`` normalises the sums after them. The
            paper's sentence allows both; its parameter count does not tell them apart.
        mlp_ratio: hidden width of the MLP, in ``channels``.

    Raises:
        ValueError: if an option is unknown, ``channels`` is no multiple of ``head_dim``, or a number is out of range.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> DCABlock(spatial_dims=2, channels=64, lambda_init=0.2)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Li et al., "DCAU-Net", arXiv:2603.09530.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        head_dim: int = 32,
        window_size: int = 7,
        attention: str = "differential",
        lambda_init: float = 0.8,
        norm_position: str = "pre",
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        check_spatial_dims("DCABlock", spatial_dims)
        check_option("DCABlock", "attention", attention, ("differential", "standard"))
        check_option("DCABlock", "norm_position", norm_position, ("pre", "post"))
        if mlp_ratio < 1:
            raise ValueError(f"monai_ext: DCABlock: mlp_ratio must be at least 1, got {mlp_ratio}.")
        self.pre_norm = norm_position == "pre"
        self.conv = Conv["CONV", spatial_dims](channels, channels, 3, padding=1, groups=channels)
        self.norm1 = ChannelLayerNorm(channels)
        self.attention: WindowCrossAttention
        if attention == "differential":
            self.attention = DifferentialCrossAttention(
                spatial_dims, channels, head_dim, window_size, lambda_init=lambda_init
            )
        else:
            self.attention = WindowCrossAttention(spatial_dims, channels, head_dim, window_size)
        self.norm2 = ChannelLayerNorm(channels)
        self.mlp = MLPBlock(channels, mlp_ratio * channels)

    def mix_channels(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x.movedim(1, -1)).movedim(-1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.conv(x)  # (8)
        if self.pre_norm:
            x = x + self.attention(self.norm1(x))  # (9)
            return x + self.mix_channels(self.norm2(x))  # (10)
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mix_channels(x))
