# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv

from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

from .channel_layer_norm import ChannelLayerNorm
from .dual_mix_attention import DualMixAttention
from .fourier_position_map import FourierPositionMap
from .token_attention import TokenAttention

__all__ = ["QueryTokenStage"]


class QueryTokenStage(TwoPaths):
    """One level of QTSeg's decoder [1]_: dual-mix attention, then tokens and map on the next level's channels and size.

    After ``depth`` layers of :class:`DualMixAttention` the tokens attend to the map once more, with what they were when
    they came in added to the queries and the positions to the keys, and are normalised. Each token then passes an MLP
    of its own; the map is enlarged by transposed convolutions of stride 2, each with a norm over channels and a GELU.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of tokens and map.
        num_tokens: number of tokens.
        token_channels: channels of the tokens that leave.
        map_channels: channels after each doubling of the map; the map leaves with the last.
        depth: number of layers.
        num_heads: heads of every attention.
        mlp_dim: hidden width of the MLP inside a layer.
        spatial_gate: see :class:`DualMixAttention`.
        channel_gate: see :class:`DualMixAttention`.

    Raises:
        ValueError: for another ``spatial_dims``, no tokens, or heads that do not divide half of the channels.

    Shape:
        - tokens: ``(B, num_tokens, channels)``
        - features: ``(B, channels, *spatial)``
        - output: ``(B, num_tokens, token_channels)`` and ``(B, map_channels[-1], *spatial * 2**len(map_channels))``

    Examples::

        >>> stage = QueryTokenStage(2, channels=128, num_tokens=2, token_channels=64, map_channels=[64], depth=2)
        >>> tokens, features = stage(torch.rand(1, 2, 128), torch.rand(1, 128, 16, 16))
        >>> tokens.shape, features.shape
        (torch.Size([1, 2, 64]), torch.Size([1, 64, 32, 32]))

    .. [1] Tran et al., "QTSeg", arXiv:2412.17241.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        num_tokens: int,
        token_channels: int,
        map_channels: Sequence[int],
        depth: int = 1,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        spatial_gate: bool = True,
        channel_gate: bool = True,
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if num_tokens < 1:
            raise ValueError(f"monai_ext: {type(self).__name__}: num_tokens must be at least 1, got {num_tokens}.")
        self.num_heads = num_heads
        self.position = FourierPositionMap(spatial_dims, channels)
        self.layers = nn.ModuleList(
            DualMixAttention(spatial_dims, channels, num_heads, mlp_dim, spatial_gate, channel_gate)
            for _ in range(depth)
        )
        self.final_attention = TokenAttention(channels, num_heads)
        self.final_norm = nn.LayerNorm(channels)
        self.token_mlps = nn.ModuleList(
            nn.Sequential(
                nn.Linear(channels, channels),
                nn.ReLU(),
                nn.Linear(channels, channels),
                nn.ReLU(),
                nn.Linear(channels, token_channels),
            )
            for _ in range(num_tokens)
        )
        self.upsample = nn.Sequential()
        for i, width in enumerate(map_channels):
            width_in = channels if i == 0 else map_channels[i - 1]
            self.upsample.append(Conv["CONVTRANS", spatial_dims](width_in, width, 2, 2))
            self.upsample.append(ChannelLayerNorm(width, eps=1e-6))
            self.upsample.append(nn.GELU())

    def forward(self, tokens: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        position = self.position(features)
        entered = tokens
        for layer in self.layers:
            tokens, features = layer(tokens, features, position)
        tokens = self.final_norm(tokens + self.attend(tokens + entered, features, position))
        moved: list[torch.Tensor] = []
        for i, mlp in enumerate(self.token_mlps):
            moved.append(mlp(tokens[:, i]))
        return torch.stack(moved, dim=1), self.upsample(features)

    def attend(self, queries: torch.Tensor, features: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Tokens attend to the map: keys with its positions, values without."""
        keys, values = (features + position).flatten(2), features.flatten(2)
        if not self.fast or 2 * self.num_heads * queries.shape[1] >= features.shape[1]:
            return self.final_attention(queries, keys.transpose(1, 2), values.transpose(1, 2))
        rows, bias = self.final_attention.query_rows(queries)
        weights = torch.softmax(torch.baddbmm(bias, rows, keys), dim=2)
        return self.final_attention.from_context(torch.bmm(weights, values.transpose(1, 2)))
