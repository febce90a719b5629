# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn

from monai_ext.networks.utils import check_spatial_dims

from .conv_norm_silu import ConvNormSiLU

__all__ = ["MultiLevelFeatureDistribution"]


class MultiLevelFeatureDistribution(nn.Module):
    """Rebuild each level of a three-level pyramid from all three: the bridge of QTSeg [1]_.

    Half of a level's channels come from the level itself by a 1x1 unit, a quarter from each of the others: from a finer
    one by a 3x3 unit of stride 2 or 4, from a coarser one by a transposed convolution. Number and size stay.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the three levels, finest first, each a multiple of 4.

    Raises:
        ValueError: for another ``spatial_dims``, or channels that are not three multiples of 4.

    Shape:
        - input, output: a list of three ``(B, channels[i], *spatial / 2**i)``

    Examples::

        >>> bridge = MultiLevelFeatureDistribution(spatial_dims=2, channels=(64, 128, 256))
        >>> [y.shape[1:] for y in bridge([torch.rand(2, 64 << i, 32 >> i, 32 >> i) for i in range(3)])]
        [torch.Size([64, 32, 32]), torch.Size([128, 16, 16]), torch.Size([256, 8, 8])]

    .. [1] Tran et al., "QTSeg", arXiv:2412.17241.
    """

    def __init__(self, spatial_dims: int, channels: Sequence[int]) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if len(channels) != 3 or any(width % 4 for width in channels):
            raise ValueError(
                f"monai_ext: {type(self).__name__}: channels must be three multiples of 4, one a level; got "
                f"{tuple(channels)}."
            )
        self.levels = nn.ModuleList(_Level(spatial_dims, channels, target) for target in range(3))

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        rebuilt: list[torch.Tensor] = []
        for level in self.levels:
            rebuilt.append(level(levels))
        return rebuilt


class _Level(nn.Module):
    """Level ``target``, rebuilt."""

    def __init__(self, spatial_dims: int, channels: Sequence[int], target: int) -> None:
        super().__init__()
        self.shares = nn.ModuleList(
            ConvNormSiLU(
                spatial_dims,
                width,
                channels[target] // (2 if source == target else 4),
                kernel_size=1 if source == target else 3,
                stride=2 ** abs(target - source),
                transposed=source > target,
            )
            for source, width in enumerate(channels)
        )

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        parts: list[torch.Tensor] = []
        for source, share in enumerate(self.shares):
            parts.append(share(levels[source]))
        return torch.cat(parts, dim=1)
