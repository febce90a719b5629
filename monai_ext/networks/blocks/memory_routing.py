# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
from monai.networks.layers.factories import Conv

from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

from .rms_norm import ChannelRMSNorm

__all__ = ["MemoryRouting"]


class MemoryRouting(TwoPaths):
    """A skip connection that asks: each decoder position picks among all maps of an encoder stage.

    The decoupled key-value memory routing of XAttnRes' block-level revision [1]_: one 1x1 convolution turns each
    encoder map into ``d`` key and ``channels`` value channels, another turns the decoder map into a query of ``d``
    channels; ``softmax_n(<q, rms(k_n)> / sqrt(d))`` weighs the values. ``d`` is ``max(8, int(key_ratio * channels))``.

    The fast path weighs the maps and projects their mixture once, instead of every map.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of every map and of the output.
        key_ratio: the keys' width relative to ``channels``.

    Raises:
        ValueError: for another ``spatial_dims`` or a ``key_ratio`` that is not positive.

    Shape:
        - memory: a list of at least one ``(B, channels, *spatial)``
        - x: ``(B, channels, *spatial)``
        - output: ``(B, channels, *spatial)``

    Examples::

        >>> route = MemoryRouting(spatial_dims=2, channels=36)
        >>> route([torch.rand(1, 36, 56, 56), torch.rand(1, 36, 56, 56)], torch.rand(1, 36, 56, 56)).shape
        torch.Size([1, 36, 56, 56])

    .. [1] Liu et al., "XAttnRes", arXiv:2604.03297; this revision is in the authors' repository, xq141839/XAttnRes.
    """

    def __init__(self, spatial_dims: int, channels: int, key_ratio: float = 0.5) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if key_ratio <= 0:
            raise ValueError(f"monai_ext: {type(self).__name__}: key_ratio must be positive, got {key_ratio}.")
        self.key_channels = max(8, int(key_ratio * channels))
        self.key_value = Conv["CONV", spatial_dims](channels, self.key_channels + channels, 1, bias=False)
        self.query = Conv["CONV", spatial_dims](channels, self.key_channels, 1, bias=False)
        self.norm = ChannelRMSNorm(self.key_channels, eps=1e-8)

    def forward(self, memory: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        if not self.fast:
            return self._by_definition(memory, x)
        batch, channels = x.shape[0], x.shape[1]
        # rows of a batched product: torch.matmul would copy the maps to fold the batch into them
        key_value_rows = self.key_value.weight.flatten(1).expand(batch, -1, -1)
        key_rows, value_rows = key_value_rows.split([self.key_channels, channels], dim=1)
        # the norm's scale and the temperature go into the query's weight
        query_rows = self.query.weight.flatten(1) * (self.norm.scale / math.sqrt(self.key_channels)).unsqueeze(1)
        query = torch.bmm(query_rows.expand(batch, -1, -1), x.flatten(2))
        scores = []
        for m in memory:
            key = torch.bmm(key_rows, m.flatten(2))
            scores.append((query * key).sum(dim=1, keepdim=True) * self.norm.inverse_rms(key))
        weights = torch.softmax(torch.cat(scores, dim=1), dim=1).to(x.dtype)
        mixed = weights[:, :1] * memory[0].flatten(2)
        for n in range(1, len(memory)):
            mixed = mixed.addcmul_(weights[:, n : n + 1], memory[n].flatten(2))
        # a weight per position commutes with the projection of channels, which has no bias
        return torch.bmm(value_rows, mixed).view(x.shape)

    def _by_definition(self, memory: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        query = self.query(x)
        scores, values = [], []
        for m in memory:
            key, value = self.key_value(m).split([self.key_channels, x.shape[1]], dim=1)
            scores.append((query * self.norm(key)).sum(dim=1) / math.sqrt(self.key_channels))
            values.append(value)
        weights = torch.softmax(torch.stack(scores, dim=1), dim=1)
        return (weights.unsqueeze(2) * torch.stack(values, dim=1)).sum(dim=1)
