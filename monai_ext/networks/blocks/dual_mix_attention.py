# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import MLPBlock

from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

from .channel_gram_attention import ChannelGramAttention
from .spatial_attention import SpatialAttention
from .token_attention import TokenAttention

__all__ = ["DualMixAttention"]


class DualMixAttention(TwoPaths):
    """One layer in which query tokens and a feature map inform each other: QTSeg's dual-mix attention [1]_.

    The map with its positions, ``G = features + position``, is gated in two ways: ``S`` by position
    (:class:`SpatialAttention` plus ``G``), ``Q`` by channel (:class:`ChannelGramAttention`). The tokens attend to both,
    ``U = LayerNorm(attend(tokens, S) + attend(tokens, Q) + tokens)``; an MLP of ``U``, normalised, is added to the
    tokens. Then the map attends to ``U`` with the queries ``S + Q + position``, which is added to the features.

    The fast path, taken where ``num_heads * T < channels / 2``, moves every linear map and both gates from the map's
    side to the tokens', see :class:`TokenAttention`.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of tokens and map.
        num_heads: heads of the three attentions, at half of the channels.
        mlp_dim: hidden width of the tokens' MLP.
        spatial_gate: ``False`` leaves ``S = G``.
        channel_gate: ``False`` leaves ``Q = G``.

    Raises:
        ValueError: for another ``spatial_dims``, or heads that do not divide half of the channels.

    Shape:
        - tokens: ``(B, T, channels)``
        - features: ``(B, channels, *spatial)``
        - position: ``(1, channels, *spatial)``
        - output: new tokens and new features, of the inputs' shapes

    Examples::

        >>> layer = DualMixAttention(spatial_dims=2, channels=64)
        >>> tokens, features = layer(torch.rand(1, 2, 64), torch.rand(1, 64, 32, 32), torch.rand(1, 64, 32, 32))
        >>> tokens.shape, features.shape
        (torch.Size([1, 2, 64]), torch.Size([1, 64, 32, 32]))

    .. [1] Tran et al., "QTSeg", arXiv:2412.17241.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        spatial_gate: bool = True,
        channel_gate: bool = True,
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        self.num_heads = num_heads
        self.spatial_gate = SpatialAttention(spatial_dims) if spatial_gate else None
        self.channel_gate = ChannelGramAttention() if channel_gate else None
        self.attend_spatial = TokenAttention(channels, num_heads)
        self.attend_channel = TokenAttention(channels, num_heads)
        self.mixed_norm = nn.LayerNorm(channels)
        self.mlp = MLPBlock(channels, mlp_dim)
        self.mlp_norm = nn.LayerNorm(channels)
        self.attend_tokens = TokenAttention(channels, num_heads)

    def forward(
        self, tokens: torch.Tensor, features: torch.Tensor, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.fast and 2 * self.num_heads * tokens.shape[1] < features.shape[1]:
            return self._on_tokens(tokens, features, position)
        positioned = features + position
        spatial = channel = positioned
        if self.spatial_gate is not None:
            spatial = self.spatial_gate(positioned) + positioned
        if self.channel_gate is not None:
            channel = self.channel_gate(positioned)

        spatial_rows, channel_rows = spatial.flatten(2).transpose(1, 2), channel.flatten(2).transpose(1, 2)
        mixed = self.mixed_norm(
            self.attend_spatial(tokens, spatial_rows, spatial_rows)
            + self.attend_channel(tokens, channel_rows, channel_rows)
            + tokens
        )
        new_tokens = self.mlp_norm(self.mlp(mixed)) + tokens

        queries = spatial_rows + channel_rows + position.flatten(2).transpose(1, 2)
        taken = self.attend_tokens(queries, mixed, mixed)
        return new_tokens, taken.transpose(1, 2).reshape(features.shape) + features

    def _on_tokens(
        self, tokens: torch.Tensor, features: torch.Tensor, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with neither ``S = G * gate`` nor ``Q = mix G`` formed: products with them are products with ``G``.

        The gate of positions becomes a factor of the tokens' logits and weights, the channels' mixture a small matrix
        on their rows.
        """
        batch, num_tokens = tokens.shape[0], tokens.shape[1]
        positioned = features + position
        g = positioned.flatten(2)
        gate = torch.ones(1, dtype=g.dtype, device=g.device)
        if self.spatial_gate is not None:
            gate = 1 + self.spatial_gate.gate(positioned).flatten(2)
        mix = torch.eye(g.shape[1], dtype=g.dtype, device=g.device).expand(batch, -1, -1)
        if self.channel_gate is not None:
            mix = mix + self.channel_gate.gamma * self.channel_gate.affinity(g)

        spatial_rows, spatial_bias = self.attend_spatial.query_rows(tokens)
        channel_rows, channel_bias = self.attend_channel.query_rows(tokens)
        rows = torch.cat([spatial_rows, torch.bmm(channel_rows, mix)], dim=1)
        on_spatial, on_channel = torch.bmm(rows, g).chunk(2, dim=1)
        on_spatial = torch.softmax(on_spatial * gate + spatial_bias, dim=2) * gate
        on_channel = torch.softmax(on_channel + channel_bias, dim=2)
        weights = torch.cat([on_spatial, on_channel], dim=1)
        from_spatial, from_channel = torch.bmm(weights, g.transpose(1, 2)).chunk(2, dim=1)
        mixed = self.mixed_norm(
            self.attend_spatial.from_context(from_spatial)
            + self.attend_channel.from_context(torch.bmm(from_channel, mix.transpose(1, 2)))
            + tokens
        )
        new_tokens = self.mlp_norm(self.mlp(mixed)) + tokens

        values = self.attend_tokens.value_rows(mixed)
        if num_tokens == 1 and not self.training:
            # one key: its weight is 1. In training the logits stay, as DDP waits for a gradient of their parameters
            taken = values.sum(dim=1).unsqueeze(2)
            return new_tokens, (features.flatten(2) + taken).view(features.shape)
        rows, bias = self.attend_tokens.key_rows(mixed)
        of_spatial, of_channel = torch.bmm(torch.cat([rows, torch.bmm(rows, mix)], dim=1), g).chunk(2, dim=1)
        of_position = torch.bmm(rows, position.flatten(2).expand(batch, -1, -1))
        logits = of_spatial * gate + of_channel + of_position + bias
        weights = torch.softmax(logits.unflatten(1, (self.num_heads, num_tokens)), dim=2).flatten(1, 2)
        taken = torch.baddbmm(features.flatten(2), values.transpose(1, 2), weights)
        return new_tokens, taken.view(features.shape)
