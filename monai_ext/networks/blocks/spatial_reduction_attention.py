# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.utils import ensure_tuple_rep

from monai_ext.networks.blocks.channel_layer_norm import ChannelLayerNorm
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

__all__ = ["SpatialReductionAttention"]


class SpatialReductionAttention(TwoPaths):
    """Let every position attend to a coarser version of the map, so that cost grows slowly with its size.

    PVT v2's attention [1]_: keys and values come from patches of ``reduction`` positions a side, each made one token
    by a strided convolution and layer normalisation; queries keep the full resolution.

    The fast path is PyTorch's fused attention, which never holds the map of scores.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output, a multiple of ``num_heads``.
        num_heads: number of heads.
        reduction: side of a patch, one number or one per axis; 1 everywhere is plain self-attention. The number of
            scores is the number of positions squared, divided by the patch's volume.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, or ``channels`` is no multiple of ``num_heads``.

    Shape:
        - input, output: ``(B, channels, *spatial)``, each side at least ``reduction``

    Examples::

        >>> SpatialReductionAttention(2, 64, num_heads=1, reduction=8)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", arXiv:2106.13797.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        num_heads: int,
        reduction: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        check_spatial_dims("SpatialReductionAttention", spatial_dims)
        if channels % num_heads:
            raise ValueError(
                f"monai_ext: SpatialReductionAttention: channels must be a multiple of num_heads, got {channels} "
                f"and {num_heads}."
            )
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        patch = ensure_tuple_rep(reduction, spatial_dims)
        self.reduce: nn.Module | None = None
        self.norm: nn.Module | None = None
        if max(patch) > 1:
            self.reduce = Conv["CONV", spatial_dims](channels, channels, patch, stride=patch)
            self.norm = ChannelLayerNorm(channels, eps=1e-5)

    def heads(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(2, [self.num_heads, -1]).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        queries = self.heads(self.query(x.flatten(2).transpose(1, 2)))
        if self.reduce is not None and self.norm is not None:
            x = self.norm(self.reduce(x))
        keys, values = self.key_value(x.flatten(2).transpose(1, 2)).chunk(2, dim=2)
        keys, values = self.heads(keys), self.heads(values)
        if self.fast:
            y = F.scaled_dot_product_attention(queries, keys, values)
        else:
            scores = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
            y = torch.softmax(scores, dim=-1) @ values
        return self.project(y.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, size)
