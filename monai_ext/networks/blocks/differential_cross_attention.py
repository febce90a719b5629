# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks.blocks.window_cross_attention import WindowCrossAttention
from monai_ext.networks.paths import TwoPaths

__all__ = ["DifferentialCrossAttention", "scheduled_lambda"]


def scheduled_lambda(layer: int) -> float:
    """Return the differential transformer's lambda_init of layer 1, 2, ...: 0.2 in the first, towards 0.8 in depth."""
    return 0.8 - 0.6 * math.exp(-0.3 * (layer - 1))


class DifferentialCrossAttention(TwoPaths, WindowCrossAttention):
    """Let every position attend to window means by the difference of two softmax maps.

    Equations (1)-(7) of DCAU-Net [1]_. Each head has two sets of queries and keys, half a head wide, and one of values.
    What both maps attend to alike is noise and cancels: ``O = (A1 - lambda A2) V``, with one learnt ``lambda`` per
    layer. The attention itself, its normalisation of each head and its initial values are the differential
    transformer's [2]_.

    The fast path makes fewer passes over the maps, on a CPU in chunks of queries that stay in its cache.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output, a multiple of ``head_dim``.
        head_dim: channels of one head, ``2d`` in the paper; even.
        window_size: side of a window; a map that fits into one window is not summarised.
        lambda_init: constant part of lambda, from 0 to below 1; :func:`scheduled_lambda` gives the published values.
        max_entries: on the fast path on a CPU, the number of map entries of one image that a chunk may hold.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, ``channels`` is no multiple of ``head_dim``, ``head_dim`` is
            odd, ``lambda_init`` is outside [0, 1), or ``window_size`` or ``max_entries`` is below 1.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> attention = DifferentialCrossAttention(2, 64, lambda_init=scheduled_lambda(layer=1))
        >>> attention(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Li et al., "DCAU-Net", arXiv:2603.09530.
    .. [2] Ye et al., "Differential Transformer", arXiv:2410.05258.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        head_dim: int = 32,
        window_size: int = 7,
        lambda_init: float = 0.8,
        max_entries: int = 2**17,
    ) -> None:
        super().__init__(spatial_dims, channels, head_dim, window_size)
        if head_dim % 2:
            raise ValueError(f"monai_ext: DifferentialCrossAttention: head_dim must be even, got {head_dim}.")
        if not 0 <= lambda_init < 1:
            raise ValueError(
                f"monai_ext: DifferentialCrossAttention: lambda_init must be in [0, 1), got {lambda_init}."
            )
        if max_entries < 1:
            raise ValueError(
                f"monai_ext: DifferentialCrossAttention: max_entries must be at least 1, got {max_entries}."
            )
        self.map_dim = head_dim // 2
        self.lambda_init = float(lambda_init)
        self.max_entries = max_entries
        self.lambda_q1 = nn.Parameter(torch.empty(self.map_dim).normal_(0, 0.1))
        self.lambda_k1 = nn.Parameter(torch.empty(self.map_dim).normal_(0, 0.1))
        self.lambda_q2 = nn.Parameter(torch.empty(self.map_dim).normal_(0, 0.1))
        self.lambda_k2 = nn.Parameter(torch.empty(self.map_dim).normal_(0, 0.1))
        self.norm = nn.RMSNorm(head_dim, eps=1e-5)

    def lambda_full(self) -> torch.Tensor:
        """Return lambda of equation (5); products and sums, unlike a dot product, stay in float32 under autocast."""
        first = torch.exp((self.lambda_q1 * self.lambda_k1).sum())
        second = torch.exp((self.lambda_q2 * self.lambda_k2).sum())
        return first - second + self.lambda_init

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map queries ``(B, N, C)``, keys and values ``(B, M, C)`` to ``(B, N, C)``, head by head."""
        v = v.unflatten(2, [self.heads, self.head_dim]).transpose(1, 2)
        if self.fast:
            y = self.attend_in_chunks(q, k, v)
        else:
            y = self.attend_by_equations(q, k, v)
        return y.transpose(1, 2).flatten(2)

    def maps(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two softmax maps, ``(B, heads, N, M)`` each, of queries ``(B, N, C)`` and keys ``(B, M, C)``."""
        q1, q2 = q.unflatten(2, [self.heads, 2, self.map_dim]).transpose(1, 2).unbind(3)  # (2)
        k1, k2 = k.unflatten(2, [self.heads, 2, self.map_dim]).transpose(1, 2).unbind(3)
        a1 = torch.softmax(q1 @ k1.transpose(2, 3) / math.sqrt(self.map_dim), dim=-1)  # (3)
        a2 = torch.softmax(q2 @ k2.transpose(2, 3) / math.sqrt(self.map_dim), dim=-1)
        return a1, a2

    def maps_of_position(self, x: torch.Tensor, at: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what position ``at`` of ``x`` attends to: two maps ``(B, heads, *grid of keys)``, each of sum 1."""
        summary = self.summarise(x)
        for place in at:
            x = x.select(2, place)
        a1, a2 = self.maps(self.query(x.unsqueeze(1)), self.key(summary.flatten(2).transpose(1, 2)))
        return a1.squeeze(2).unflatten(2, summary.shape[2:]), a2.squeeze(2).unflatten(2, summary.shape[2:])

    def attend_by_equations(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        a1, a2 = self.maps(q, k)
        y = (a1 - self.lambda_full() * a2) @ v  # (4), (5)
        return (1 - self.lambda_init) * self.norm(y.to(self.norm.weight))  # (6), in float32 under autocast

    def chunk_rows(self, q: torch.Tensor, keys: int) -> int:
        """Return how many queries to take at once: all, but for a CPU, whose cache the maps would leave."""
        if q.device.type != "cpu":
            return q.shape[2]
        if not torch.jit.is_scripting() and torch.compiler.is_compiling():  # a graph would hold every chunk's nodes
            return q.shape[2]
        return max(1, self.max_entries // (2 * self.heads * keys))

    def attend_in_chunks(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # both maps of all heads at once; the scale goes into the keys, which are few
        q = q.unflatten(2, [2 * self.heads, self.map_dim]).transpose(1, 2)
        k = (k * self.map_dim**-0.5).unflatten(2, [2 * self.heads, self.map_dim]).permute(0, 2, 3, 1).contiguous()
        factor = self.lambda_full()
        parts: list[torch.Tensor] = []
        for chunk in q.split(self.chunk_rows(q, keys=k.shape[3]), dim=2):
            maps = torch.softmax(chunk @ k, dim=-1).unflatten(1, [self.heads, 2])
            parts.append(torch.addcmul(maps[:, :, 0], maps[:, :, 1], factor, value=-1) @ v)
        y = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
        gain = self.norm.weight * (1 - self.lambda_init)
        return F.rms_norm(y.to(gain), self.norm.normalized_shape, gain, self.norm.eps)
