# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
import torch.nn as nn

__all__ = ["TokenAttention"]


class TokenAttention(nn.Module):
    """Multi-head attention between a few tokens and a map, at half of the channels.

    ``out(softmax(q k^T / sqrt(d)) v)`` with linear maps of all four to, and back from, ``channels // 2``.

    Where one side is few tokens (``T``) and the other a map of ``N`` positions, that side's weights absorb those of the
    other, and no linear map runs over the positions: the methods below give the rows that replace them. With ``h``
    heads this takes ``2 h T C N`` multiplications instead of ``C^2 N``. All three are exact, biases included.

    Args:
        channels: channels of queries, keys, values and output, even.
        num_heads: number of heads.

    Raises:
        ValueError: if the heads do not divide ``channels // 2``.

    Shape:
        - query: ``(B, M, channels)``
        - key, value: ``(B, N, channels)``
        - output: ``(B, M, channels)``

    Examples::

        >>> TokenAttention(64)(torch.rand(1, 2, 64), torch.rand(1, 1024, 64), torch.rand(1, 1024, 64)).shape
        torch.Size([1, 2, 64])
    """

    def __init__(self, channels: int, num_heads: int = 8) -> None:
        super().__init__()
        inner = channels // 2
        if channels % 2 or inner % num_heads:
            raise ValueError(
                f"monai_ext: {type(self).__name__}: {num_heads} heads must divide half of the channels, got "
                f"{channels} channels."
            )
        self.num_heads = num_heads
        self.scale = 1 / math.sqrt(inner // num_heads)
        self.query = nn.Linear(channels, inner)
        self.key = nn.Linear(channels, inner)
        self.value = nn.Linear(channels, inner)
        self.out = nn.Linear(inner, channels)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q = self.query(query).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k = self.key(key).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        v = self.value(value).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        weights = torch.softmax(self.scale * torch.matmul(q, k.transpose(2, 3)), dim=-1)
        return self.out(torch.matmul(weights, v).transpose(1, 2).flatten(2))

    def query_rows(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For tokens that ask a map ``(B, C, N)``: ``rows @ map + bias`` are the logits of each head and token.

        Returns:
            rows ``(B, h T, C)`` and bias ``(B, h T, 1)``; a softmax over the map's positions comes next.
        """
        q = (self.scale * self.query(tokens)).unflatten(2, (self.num_heads, -1))
        return self._rows(q, self.key.weight, self.key.bias)

    def key_rows(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For a map ``(B, C, N)`` that asks tokens: ``rows @ map + bias`` are the logits of each head and token.

        Returns:
            rows ``(B, h T, C)`` and bias ``(B, h T, 1)``; a softmax over the ``T`` tokens of each head comes next.
        """
        k = (self.scale * self.key(tokens)).unflatten(2, (self.num_heads, -1))
        return self._rows(k, self.query.weight, self.query.bias)

    def from_context(self, context: torch.Tensor) -> torch.Tensor:
        """The output of tokens that asked, from the map's mean by each head's and token's weights, ``(B, h T, C)``."""
        context = context.unflatten(1, (self.num_heads, -1))
        v = torch.einsum("bhtc,hdc->bthd", context, self.value.weight.unflatten(0, (self.num_heads, -1)))
        return self.out(v.flatten(2) + self.value.bias)

    def value_rows(self, tokens: torch.Tensor) -> torch.Tensor:
        """What a map that asks gets from each head and token, ``(B, h T, C)``: its output is their weighted sum."""
        v = self.value(tokens).unflatten(2, (self.num_heads, -1))
        rows = torch.einsum("bthd,chd->bhtc", v, self.out.weight.unflatten(1, (self.num_heads, -1))).flatten(1, 2)
        return rows + self.out.bias / self.num_heads  # the weights of a head sum to one

    def _rows(self, own: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.einsum("bthd,hdc->bhtc", own, weight.unflatten(0, (self.num_heads, -1))).flatten(1, 2)
        offset = torch.einsum("bthd,hd->bht", own, bias.view(self.num_heads, -1))
        return rows, offset.flatten(1).unsqueeze(2)
