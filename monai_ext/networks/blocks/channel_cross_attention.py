# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn.functional as F

from monai_ext.networks.blocks.channel_affine import ChannelAffine
from monai_ext.networks.paths import TwoPaths

__all__ = ["ChannelCrossAttention"]


class ChannelCrossAttention(TwoPaths):
    """Let the channels of one scale attend to the channels of all scales: CCA of Dual Cross-Attention [1]_.

    Every channel is a token whose features are its values at the N positions: ``project(softmax(q^T k / sqrt(C)) v^T)``
    with ``q = query(own)``, ``k = key(merged)``, ``v = value(merged)``, all four maps a factor and a shift per channel.

    The fast path applies the maps of keys and values to the channel x channel scores, not to the tokens: the same by
    linearity, without a copy of all tokens per map.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of this scale.
        all_channels: channels of all scales together, C.
        heads: groups into which the channels of queries, keys and values are split.

    Shape:
        - own, output: ``(B, N, channels)``
        - merged: ``(B, N, all_channels)``

    Examples::

        >>> attend = ChannelCrossAttention(2, channels=32, all_channels=96)
        >>> attend(torch.rand(1, 784, 32), torch.rand(1, 784, 96)).shape
        torch.Size([1, 784, 32])

    .. [1] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    def __init__(self, spatial_dims: int, channels: int, all_channels: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.scale = all_channels**-0.5  # of all channels with several heads too, as published
        self.query = ChannelAffine(spatial_dims, channels)
        self.key = ChannelAffine(spatial_dims, all_channels)
        self.value = ChannelAffine(spatial_dims, all_channels)
        self.project = ChannelAffine(spatial_dims, channels)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, N, C)`` -> ``(B, heads, C // heads, N)``."""
        return x.transpose(1, 2).unflatten(1, [self.heads, x.shape[2] // self.heads])

    def columns(self, x: torch.Tensor) -> torch.Tensor:
        """One number per channel -> ``(heads, 1, C // heads)``, to go with the columns of the scores."""
        return x.reshape(self.heads, 1, x.shape[0] // self.heads)

    def forward(self, own: torch.Tensor, merged: torch.Tensor) -> torch.Tensor:
        q = self.split(self.query(own))
        if self.fast:
            u = self.split(merged)
            # k = w u + b: q k^T = (q u^T) w + (q 1) b
            scores = (q @ u.transpose(2, 3)) * self.columns(self.key.weight)
            scores = scores + q.sum(3, keepdim=True) * self.columns(self.key.bias)
            # sums over N positions make sharp rows: without the cut, products of denormal numbers take 4/5 of the time
            attention = F.threshold(torch.softmax(scores * self.scale, dim=3), 1e-30, 0.0)
            # v = w u + b: A v = (A w) u + A b
            mixed = (attention * self.columns(self.value.weight)) @ u
            mixed = mixed + (attention * self.columns(self.value.bias)).sum(3, keepdim=True)
        else:
            scores = q @ self.split(self.key(merged)).transpose(2, 3)
            mixed = torch.softmax(scores * self.scale, dim=3) @ self.split(self.value(merged))
        return self.project(mixed.flatten(1, 2).transpose(1, 2))
