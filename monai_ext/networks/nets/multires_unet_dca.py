# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool

from monai_ext.networks.blocks.dual_cross_attention import DualCrossAttention
from monai_ext.networks.blocks.multires_block import MultiResBlock
from monai_ext.networks.blocks.res_path import ResPath
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, pad_to_multiple

__all__ = ["MultiResUNetDCA"]


class MultiResUNetDCA(nn.Module):
    """MultiResUNet with Dual Cross-Attention behind its residual paths: "MultiResUNet (DCA)" of [1]_.

    Published size (1 channel, 9 classes): 7,354,800 parameters, 7,244,240 without attention. The former count the last
    norm of each path, which only the baseline reads.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes.
        img_size: size of the images in training, one number or one per axis. It bounds the number of tokens, see
            ``DualCrossAttention``: in 2D it matters above 1024 pixels, in 3D above 128 voxels.
        attention: False gives the published baseline, whose skips are the paths' outputs; the attention takes them
            before norm and ReLU.
        features: channels of a U-Net's levels that the blocks stand in for; they have ``alpha`` times as many. The
            paths and the attention have these.
        alpha: width of the blocks.
        patch_size: side of a token in pixels.
        num_blocks: repetitions of channel and spatial attention.
        spatial_heads: heads of the spatial attention.
        channel_heads: heads of the channel attention.
        fast: run the attention's rewritten form, see ``DualCrossAttention``; the numbers are the same.

    Raises:
        ValueError: if an argument or the input's shape does not fit.

    Shape:
        - input: ``(B, in_channels, *spatial)``, sides of at least 16; one image a batch trains from 32 on
        - output: ``(B, out_channels, *spatial)``, logits

    Examples::

        >>> net = MultiResUNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
        >>> net(torch.rand(2, 1, 224, 224)).shape
        torch.Size([2, 9, 224, 224])

    .. [1] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 9,
        img_size: Sequence[int] | int = 224,
        attention: bool = True,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        alpha: float = 1.67,
        patch_size: int = 8,
        num_blocks: int = 1,
        spatial_heads: int = 4,
        channel_heads: int = 1,
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_spatial_dims("MultiResUNetDCA", spatial_dims)
        *widths, deepest = features
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.stride = 2 ** len(widths)

        self.encoder = nn.ModuleList()
        self.paths = nn.ModuleList()
        channels = in_channels
        for level, width in enumerate(widths):
            block = MultiResBlock(spatial_dims, channels, width, alpha)
            channels = block.out_channels
            self.encoder.append(block)
            self.paths.append(ResPath(spatial_dims, channels, width, length=len(widths) - level))
        self.pool = Pool["MAX", spatial_dims](2)
        self.bottleneck = MultiResBlock(spatial_dims, channels, deepest, alpha)
        channels = self.bottleneck.out_channels
        self.dca: DualCrossAttention | None = None
        if attention:
            self.dca = DualCrossAttention(
                spatial_dims, widths, img_size, patch_size, num_blocks, spatial_heads, channel_heads, fast
            )

        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for width in reversed(widths):
            up = Convolution(
                spatial_dims,
                channels,
                width,
                strides=2,
                kernel_size=2,
                padding=0,
                output_padding=0,
                is_transposed=True,
                act="RELU",
                norm="BATCH",
            )
            block = MultiResBlock(spatial_dims, 2 * width, width, alpha)
            channels = block.out_channels
            self.up.append(up)
            self.decoder.append(block)
        self.head = Conv["CONV", spatial_dims](channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, minimum=self.stride)
        size = list(x.shape[2:])
        x = pad_to_multiple(x, self.stride)
        skips: list[torch.Tensor] = []
        for encode, path in zip(self.encoder, self.paths):
            x = encode(x)
            skip, raw = path(x)
            skips.append(skip if self.dca is None else raw)
            x = self.pool(x)
        x = self.bottleneck(x)
        if self.dca is not None:
            skips = self.dca(skips)
        skips = skips[::-1]
        for i, (up, decode) in enumerate(zip(self.up, self.decoder)):
            x = decode(torch.cat([up(x), skips[i]], dim=1))
        return crop_to(self.head(x), size)
