# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn.functional as F

from monai_ext.networks.blocks.channel_affine import ChannelAffine
from monai_ext.networks.paths import TwoPaths

__all__ = ["SpatialCrossAttention"]


class SpatialCrossAttention(TwoPaths):
    """Let the positions of one scale attend to each other as all scales see them: SCA of Dual Cross-Attention [1]_.

    ``project(softmax(q k^T / sqrt(C / heads)) v)`` with ``q = query(merged)``, ``k = key(merged)``, ``v = value(own)``,
    all four maps a factor and a shift per channel.

    The fast path moves the maps of keys and values to the queries and the result, so that the tokens themselves serve
    as keys and values, and leaves large position x position maps to ``scaled_dot_product_attention``. The same by
    linearity, and as the rows of a softmax sum to one.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of this scale.
        all_channels: channels of all scales together, C.
        heads: groups into which the channels of queries, keys and values are split.

    Shape:
        - own, output: ``(B, N, channels)``
        - merged: ``(B, N, all_channels)``

    Examples::

        >>> attend = SpatialCrossAttention(2, channels=32, all_channels=96)
        >>> attend(torch.rand(1, 784, 32), torch.rand(1, 784, 96)).shape
        torch.Size([1, 784, 32])

    .. [1] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    def __init__(self, spatial_dims: int, channels: int, all_channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (all_channels // heads) ** -0.5
        self.query = ChannelAffine(spatial_dims, all_channels)
        self.key = ChannelAffine(spatial_dims, all_channels)
        self.value = ChannelAffine(spatial_dims, channels)
        self.project = ChannelAffine(spatial_dims, channels)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, N, C)`` -> ``(B, heads, N, C // heads)``."""
        return x.unflatten(2, [self.heads, x.shape[2] // self.heads]).transpose(1, 2)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """``softmax(q k^T) v`` per head."""
        if self.fast and (q.is_cuda or self.heads * q.shape[1] * k.shape[1] > 2**22):
            # the fused kernels ask for values as wide as the queries, and are worth it where the map leaves the cache
            q, k, v = self.split(q), self.split(k), self.split(v)
            padding = q.shape[3] - v.shape[3]
            y = F.scaled_dot_product_attention(q, k, F.pad(v, [0, padding]), scale=1.0)[..., : v.shape[3]]
        else:
            y = torch.softmax(self.split(q) @ self.split(k).transpose(2, 3), dim=3) @ self.split(v)
        return y.transpose(1, 2).flatten(2)

    def forward(self, own: torch.Tensor, merged: torch.Tensor) -> torch.Tensor:
        if self.fast:
            # k = w u + b: q k^T = (q w) u^T + q b, whose last term is the same for all keys
            factor = self.key.weight.flatten() * self.scale
            q = merged * (self.query.weight.flatten() * factor) + self.query.bias * factor
            mixed = self.value(self.attend(q, merged, own))
            # the inert key bias stays part of the graph: distributed training waits for every gradient
            mixed = mixed + 0 * self.key.bias.sum()
        else:
            mixed = self.attend(self.query(merged) * self.scale, self.key(merged), self.value(own))
        return self.project(mixed)
