# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_ext.networks.blocks.channel_attention import ChannelAttention
from monai_ext.networks.blocks.multi_scale_conv import MultiScaleConvBlock
from monai_ext.networks.blocks.spatial_attention import SpatialAttention
from monai_ext.networks.paths import TwoPaths

__all__ = ["MSCAM"]


class MSCAM(TwoPaths):
    """Refine a map by channel, by position, then at several scales.

    EMCAD's multi-scale convolutional attention module [1]_: channel attention ("CAB"), spatial attention ("SAB") and
    the multi-scale convolution block ("MSCB"), one after the other.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output.
        kernel_sizes: sides of the depth-wise kernels, odd.
        expansion: inner width of the convolution block, in multiples of ``channels``.
        act: activation of the convolution block, in MONAI's words.
        spatial_attention: the module to use, where several levels share one as they do in EMCAD; ``None`` makes one.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, or a kernel size is even.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> MSCAM(2, 64)(torch.rand(2, 64, 56, 56)).shape
        torch.Size([2, 64, 56, 56])

    .. [1] Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image
       Segmentation", arXiv:2405.06880.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        kernel_sizes: Sequence[int] = (1, 3, 5),
        expansion: int = 2,
        act: str | tuple = "relu6",
        spatial_attention: SpatialAttention | None = None,
    ) -> None:
        super().__init__()
        self.channel_attention = ChannelAttention(spatial_dims, channels)
        self.spatial_attention = SpatialAttention(spatial_dims) if spatial_attention is None else spatial_attention
        self.convolution = MultiScaleConvBlock(spatial_dims, channels, kernel_sizes, expansion, act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.spatial_attention(self.channel_attention(x)))
