# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn

from .conv_norm_silu import ConvNormSiLU

__all__ = ["C2f"]


class _Bottleneck(nn.Module):
    """Two 3x3 units, with the input added where ``residual`` says so."""

    def __init__(self, spatial_dims: int, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.first = ConvNormSiLU(spatial_dims, channels, channels, kernel_size=3)
        self.second = ConvNormSiLU(spatial_dims, channels, channels, kernel_size=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(x))
        return x + y if self.residual else y


class C2f(nn.Module):
    """YOLOv8's stage [1]_: half of the channels pass a chain of bottlenecks, every link of which is kept.

    A 1x1 unit, a split in two halves, ``depth`` bottlenecks one after the other on the second half, and a 1x1 unit over
    both halves and every bottleneck's output.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output, even.
        depth: how many bottlenecks.
        residual: whether a bottleneck adds its input.

    Raises:
        ValueError: for odd ``out_channels``.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *spatial)``

    Examples::

        >>> C2f(2, 64, 64, depth=2, residual=True)(torch.rand(2, 64, 32, 32)).shape
        torch.Size([2, 64, 32, 32])

    .. [1] Ultralytics YOLOv8, as used by QTSeg, arXiv:2412.17241.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, depth: int = 1, residual: bool = False
    ) -> None:
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"monai_ext: {type(self).__name__}: out_channels must be even, got {out_channels}.")
        half = out_channels // 2
        self.split = ConvNormSiLU(spatial_dims, in_channels, out_channels)
        self.chain = nn.ModuleList(_Bottleneck(spatial_dims, half, residual) for _ in range(depth))
        self.merge = ConvNormSiLU(spatial_dims, (2 + depth) * half, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = list(self.split(x).chunk(2, dim=1))
        for bottleneck in self.chain:
            kept.append(bottleneck(kept[-1]))
        return self.merge(torch.cat(kept, dim=1))
