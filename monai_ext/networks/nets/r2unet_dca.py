# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv, Pool

from monai_ext.networks.blocks.dual_cross_attention import DualCrossAttention
from monai_ext.networks.blocks.recurrent_residual_unit import RecurrentResidualUnit
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, pad_to_multiple

__all__ = ["R2UNetDCA"]


class R2UNetDCA(nn.Module):
    """R2U-Net, of recurrent residual units, with Dual Cross-Attention in its skips: "R2U-Net (DCA)" of [1]_.

    Published size (1 channel, 9 classes): 9,892,489 parameters, 9,781,929 without attention.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes.
        img_size: size of the images in training, one number or one per axis. It bounds the number of tokens, see
            ``DualCrossAttention``: in 2D it matters above 1024 pixels, in 3D above 128 voxels.
        attention: False gives the published baseline, whose skips are the units' outputs; the attention takes them
            before norm and ReLU.
        features: channels of each level.
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

        >>> net = R2UNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
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
        patch_size: int = 8,
        num_blocks: int = 1,
        spatial_heads: int = 4,
        channel_heads: int = 1,
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_spatial_dims("R2UNetDCA", spatial_dims)
        *widths, deepest = features
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.stride = 2 ** len(widths)

        self.encoder = nn.ModuleList()
        channels = in_channels
        for width in widths:
            self.encoder.append(RecurrentResidualUnit(spatial_dims, channels, width))
            channels = width
        self.pool = Pool["MAX", spatial_dims](2)
        self.bottleneck = RecurrentResidualUnit(spatial_dims, channels, deepest)
        self.dca: DualCrossAttention | None = None
        if attention:
            self.dca = DualCrossAttention(
                spatial_dims, widths, img_size, patch_size, num_blocks, spatial_heads, channel_heads, fast
            )

        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = deepest
        for width in reversed(widths):
            self.up.append(
                nn.Sequential(
                    UpSample(spatial_dims, mode="nontrainable"),
                    Convolution(spatial_dims, channels, width, act="RELU", norm="BATCH"),
                )
            )
            self.decoder.append(RecurrentResidualUnit(spatial_dims, 2 * width, width))
            channels = width
        self.head = Conv["CONV", spatial_dims](channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, minimum=self.stride)
        size = list(x.shape[2:])
        x = pad_to_multiple(x, self.stride)
        skips: list[torch.Tensor] = []
        for encode in self.encoder:
            x, raw = encode(x)
            skips.append(x if self.dca is None else raw)
            x = self.pool(x)
        x = self.bottleneck(x)[0]
        if self.dca is not None:
            skips = self.dca(skips)
        skips = skips[::-1]
        for i, (up, decode) in enumerate(zip(self.up, self.decoder)):
            x = decode(torch.cat([up(x), skips[i]], dim=1))[0]
        return crop_to(self.head(x), size)
