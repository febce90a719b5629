# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv, Norm, Pool

from monai_ext.networks.blocks.dual_cross_attention import DualCrossAttention
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, pad_to_multiple

__all__ = ["UNetDCA"]


class UNetDCA(nn.Module):
    """U-Net with Dual Cross-Attention in its skips: "U-Net (DCA)" of [1]_.

    Two 3x3 convolutions a level; the second one's raw output is the skip, its norm and activation serve the way down
    only. Published size (1 channel, 9 classes): 8,747,593 parameters, 8,637,033 without attention.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes.
        img_size: size of the images in training, one number or one per axis. It bounds the number of tokens, see
            ``DualCrossAttention``: in 2D it matters above 1024 pixels, in 3D above 128 voxels.
        attention: False gives the published baseline, with the raw skips concatenated.
        features: channels of each level; one more level makes inputs be padded to a multiple of twice the size.
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

        >>> net = UNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
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
        check_spatial_dims("UNetDCA", spatial_dims)
        conv_norm_relu = partial(Convolution, spatial_dims, act="RELU", norm="BATCH")
        conv_only = partial(Convolution, spatial_dims, conv_only=True)
        *widths, deepest = features
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.stride = 2 ** len(widths)

        self.encoder = nn.ModuleList()
        self.encoder_norm = nn.ModuleList()
        channels = in_channels
        for width in widths:
            self.encoder.append(nn.Sequential(conv_norm_relu(channels, width), conv_only(width, width)))
            self.encoder_norm.append(Norm["BATCH", spatial_dims](width))
            channels = width
        self.pool = Pool["MAX", spatial_dims](2)
        self.bottleneck = nn.Sequential(conv_norm_relu(channels, deepest), conv_norm_relu(deepest, deepest))
        self.dca: DualCrossAttention | None = None
        if attention:
            self.dca = DualCrossAttention(
                spatial_dims, widths, img_size, patch_size, num_blocks, spatial_heads, channel_heads, fast
            )

        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = deepest
        for width in reversed(widths):
            self.up.append(nn.Sequential(UpSample(spatial_dims, mode="nontrainable"), conv_norm_relu(channels, width)))
            self.decoder.append(nn.Sequential(conv_norm_relu(2 * width, width), conv_norm_relu(width, width)))
            channels = width
        self.head = Conv["CONV", spatial_dims](channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, minimum=self.stride)
        size = list(x.shape[2:])
        x = pad_to_multiple(x, self.stride)
        skips: list[torch.Tensor] = []
        for encode, norm in zip(self.encoder, self.encoder_norm):
            x = encode(x)
            skips.append(x)
            x = torch.relu(self.pool(norm(x)))  # the maximum commutes with ReLU, which then sees fewer pixels
        x = self.bottleneck(x)
        if self.dca is not None:
            skips = self.dca(skips)
        skips = skips[::-1]
        for i, (up, decode) in enumerate(zip(self.up, self.decoder)):
            x = decode(torch.cat([up(x), skips[i]], dim=1))
        return crop_to(self.head(x), size)
