# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks.utils import check_spatial_dims

__all__ = ["WindowCrossAttention"]


class WindowCrossAttention(nn.Module):
    """Let every position attend to the means of non-overlapping windows instead of to every other position.

    DCAU-Net's equation (1) [1]_ with the ordinary softmax attention of [2]_ in place of the differential one: the row
    "standard attention" of its Table IV, and the frame of :class:`DifferentialCrossAttention`. ``N`` queries meet
    ``M = prod(ceil(side / window_size))`` keys, so the cost grows with ``N * M`` instead of ``N * N``. A map that fits
    into one window is not summarised: there all positions are keys. Windows cut off by the border average what lies
    inside.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output, a multiple of ``head_dim``.
        head_dim: channels of one head.
        window_size: side of a window.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, ``channels`` is no multiple of ``head_dim``, or
            ``window_size`` is below 1.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> WindowCrossAttention(2, 64)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Li et al., "DCAU-Net", arXiv:2603.09530.
    .. [2] Vaswani et al., "Attention Is All You Need", arXiv:1706.03762.
    """

    def __init__(self, spatial_dims: int, channels: int, head_dim: int = 32, window_size: int = 7) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if head_dim < 1 or channels % head_dim:
            raise ValueError(
                f"monai_ext: {type(self).__name__}: channels must be a multiple of head_dim, got {channels} and "
                f"{head_dim}."
            )
        if window_size < 1:
            raise ValueError(f"monai_ext: {type(self).__name__}: window_size must be at least 1, got {window_size}.")
        self.heads = channels // head_dim
        self.head_dim = head_dim
        self.window_size = window_size
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)

    def summarise(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map that gives keys and values: window means, or ``x`` itself where it is one window."""
        if max(x.shape[2:]) <= self.window_size:
            return x
        window = [min(side, self.window_size) for side in x.shape[2:]]
        if x.dim() == 4:
            return F.avg_pool2d(x, window, ceil_mode=True, count_include_pad=False)
        return F.avg_pool3d(x, window, ceil_mode=True, count_include_pad=False)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map queries ``(B, N, C)``, keys and values ``(B, M, C)`` to ``(B, N, C)``, head by head."""
        q = q.unflatten(2, [self.heads, self.head_dim]).transpose(1, 2)
        k = k.unflatten(2, [self.heads, self.head_dim]).transpose(1, 2)
        v = v.unflatten(2, [self.heads, self.head_dim]).transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        queries = x.flatten(2).transpose(1, 2)
        summary = self.summarise(x).flatten(2).transpose(1, 2)
        y = self.out(self.attend(self.query(queries), self.key(summary), self.value(summary)))
        return y.transpose(1, 2).reshape(x.shape)
