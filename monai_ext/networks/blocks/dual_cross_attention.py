# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Norm

from monai_ext.networks.blocks.channel_affine import ChannelAffine
from monai_ext.networks.blocks.channel_cross_attention import ChannelCrossAttention
from monai_ext.networks.blocks.spatial_cross_attention import SpatialCrossAttention
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

__all__ = ["DualCrossAttention"]

_MAX_TOKENS = {2: 128**2, 3: 16**3}


class DualCrossAttention(TwoPaths):
    """Let the skip maps of all scales of a U-shaped network inform each other: Dual Cross-Attention (DCA) [1]_.

    Every map is average-pooled to one common grid of tokens. ``num_blocks`` times, the channels of each scale attend to
    those of all scales, then its positions to each other. The tokens are up-sampled to the size of their map, pass
    a 1x1 convolution, are added to the map, and batch norm and ReLU finish it. So the maps should come in before
    their own norm and activation, as they do in the paper.

    The grid has ``size // patch_size`` tokens along each axis of the first map: 28 x 28 in the paper, where images have
    224 pixels and patches 8. Here the maps may have any size, shape and number. The spatial attention takes time (and
    on the plain path memory) with the square of the number of tokens; ``img_size`` bounds it.

    The fast path uses the linearity of the attentions' maps, and runs the 1x1 convolutions before the interpolation,
    with which they commute.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of each map, finest first; each a multiple of the numbers of heads.
        img_size: size of the first map in training. Where ``patch_size`` would cut it into more than 128^2 tokens (2D)
            or 16^3 tokens (3D), patches are doubled until it does not. None leaves ``patch_size`` as it is.
        patch_size: side of a token in pixels of the first map.
        num_blocks: how often the pair of channel and spatial attention is repeated.
        spatial_heads: heads of the spatial attention.
        channel_heads: heads of the channel attention.

    Raises:
        ValueError: if a number of channels is no multiple of the heads, another argument is not positive, or the maps
            have other channels than ``in_channels``.

    Shape:
        - input: a list of ``(B, in_channels[i], *size_i)``
        - output: the same

    Examples::

        >>> skips = [torch.rand(1, 32, 96, 64), torch.rand(1, 64, 48, 32), torch.rand(1, 128, 24, 16)]
        >>> dca = DualCrossAttention(spatial_dims=2, in_channels=(32, 64, 128))
        >>> [list(skip.shape) for skip in dca(skips)]
        [[1, 32, 96, 64], [1, 64, 48, 32], [1, 128, 24, 16]]

    .. [1] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: Sequence[int],
        img_size: Sequence[int] | int | None = None,
        patch_size: int = 8,
        num_blocks: int = 1,
        spatial_heads: int = 4,
        channel_heads: int = 1,
    ) -> None:
        super().__init__()
        check_spatial_dims("DualCrossAttention", spatial_dims)
        if min(patch_size, num_blocks, spatial_heads, channel_heads) < 1:
            raise ValueError(
                "monai_ext: DualCrossAttention: patch_size, num_blocks, spatial_heads and channel_heads must be "
                "positive, "
                f"got {patch_size}, {num_blocks}, {spatial_heads}, {channel_heads}."
            )
        for channels in in_channels:
            if channels % spatial_heads or channels % channel_heads:
                raise ValueError(
                    "monai_ext: DualCrossAttention: each of in_channels must be a multiple of "
                    f"spatial_heads={spatial_heads} and "
                    f"channel_heads={channel_heads}, got {list(in_channels)}."
                )
        if img_size is not None:
            sides = [img_size] * spatial_dims if isinstance(img_size, int) else list(img_size)
            if len(sides) != spatial_dims or min(sides) < 1:
                raise ValueError(
                    f"monai_ext: DualCrossAttention: img_size must be one positive number or {spatial_dims}, got "
                    f"{img_size!r}."
                )
            while math.prod(max(1, side // patch_size) for side in sides) > _MAX_TOKENS[spatial_dims]:
                patch_size *= 2
        self.in_channels = list(in_channels)
        self.patch_size = patch_size
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        total = sum(in_channels)
        self.project = nn.ModuleList(ChannelAffine(spatial_dims, channels) for channels in in_channels)
        self.channel = nn.ModuleList()
        self.spatial = nn.ModuleList()
        for _ in range(num_blocks):
            channel = [ChannelCrossAttention(spatial_dims, width, total, channel_heads) for width in in_channels]
            spatial = [SpatialCrossAttention(spatial_dims, width, total, spatial_heads) for width in in_channels]
            self.channel.append(_CrossScale(in_channels, channel))
            self.spatial.append(_CrossScale(in_channels, spatial))
        self.conv = nn.ModuleList(Conv["CONV", spatial_dims](channels, channels, 1) for channels in in_channels)
        self.norm = nn.ModuleList(Norm["BATCH", spatial_dims](channels) for channels in in_channels)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        channels = [x.shape[1] for x in maps]
        if channels != self.in_channels:
            raise ValueError(
                f"monai_ext: DualCrossAttention: expected maps of {self.in_channels} channels, got {channels}."
            )
        grid = [max(1, size // self.patch_size) for size in maps[0].shape[2:]]
        tokens: list[torch.Tensor] = []
        for i, project in enumerate(self.project):
            tokens.append(project(self.pool(maps[i], grid).flatten(2).transpose(1, 2)))
        for channel, spatial in zip(self.channel, self.spatial):
            tokens = spatial(channel(tokens))
        outputs: list[torch.Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.conv, self.norm)):
            y = tokens[i].transpose(1, 2).unflatten(2, grid)
            y = self.resize(conv(y), maps[i]) if self.fast else conv(self.resize(y, maps[i]))
            outputs.append(torch.relu(norm(y + maps[i])))
        return outputs

    def pool(self, x: torch.Tensor, grid: list[int]) -> torch.Tensor:
        """Average ``x`` to ``grid``."""
        kernel = [size // cells for size, cells in zip(x.shape[2:], grid)]
        if list(x.shape[2:]) == [cells * width for cells, width in zip(grid, kernel)]:
            # cells of equal size: what adaptive pooling does then too, in a form that exports in 3D
            return F.avg_pool2d(x, kernel) if len(grid) == 2 else F.avg_pool3d(x, kernel)
        if len(grid) == 2:
            return F.adaptive_avg_pool2d(x, (grid[0], grid[1]))
        return F.adaptive_avg_pool3d(x, (grid[0], grid[1], grid[2]))

    def resize(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Interpolate ``x`` to the size of ``like``."""
        return F.interpolate(x, size=list(like.shape[2:]), mode=self.mode, align_corners=True)


class _CrossScale(nn.Module):
    """Normalise the tokens of each scale, let each attend with the help of all of them, and add what comes out."""

    def __init__(self, in_channels: Sequence[int], attention: Sequence[nn.Module]) -> None:
        super().__init__()
        self.norm = nn.ModuleList(nn.LayerNorm(channels, eps=1e-6) for channels in in_channels)
        self.attention = nn.ModuleList(attention)

    def forward(self, tokens: list[torch.Tensor]) -> list[torch.Tensor]:
        normed: list[torch.Tensor] = []
        for i, norm in enumerate(self.norm):
            normed.append(norm(tokens[i]))
        merged = torch.cat(normed, dim=2)
        outputs: list[torch.Tensor] = []
        for i, attention in enumerate(self.attention):
            outputs.append(tokens[i] + attention(normed[i], merged))
        return outputs
