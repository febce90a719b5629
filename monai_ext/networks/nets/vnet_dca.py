# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv

from monai_ext.networks.blocks.dual_cross_attention import DualCrossAttention
from monai_ext.networks.blocks.vnet_stage import VNetDownStage, VNetInputStage, VNetUpStage
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, pad_to_multiple

__all__ = ["VNetDCA"]


class VNetDCA(nn.Module):
    """V-Net with Dual Cross-Attention in its skips: "V-Net (DCA)" of [1]_.

    Published size (2D, 1 channel, 9 classes): 36,079,266 parameters, 35,968,706 without attention. The latter count
    the first stage's projection, which only the attention reads.

    Args:
        spatial_dims: 2, as in the paper, or 3.
        in_channels: channels of the image.
        out_channels: number of classes.
        img_size: size of the images in training, one number or one per axis. It bounds the number of tokens, see
            ``DualCrossAttention``: in 2D it matters above 1024 pixels, in 3D above 128 voxels.
        attention: False gives the published baseline, whose skips are the stages' outputs; the attention takes them
            before norm and activation.
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

        >>> net = VNetDCA(spatial_dims=2, in_channels=1, out_channels=9)
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
        check_spatial_dims("VNetDCA", spatial_dims)
        widths = features[:-1]
        lengths = [min(level + 1, 3) for level in range(len(features))]  # 1, 2, 3, 3, 3 convolutions
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.stride = 2 ** len(widths)

        self.input = VNetInputStage(spatial_dims, in_channels, features[0])
        self.down = nn.ModuleList(
            VNetDownStage(spatial_dims, coarse_in, coarse_out, length)
            for coarse_in, coarse_out, length in zip(features, features[1:], lengths[1:])
        )
        self.dca: DualCrossAttention | None = None
        if attention:
            self.dca = DualCrossAttention(
                spatial_dims, widths, img_size, patch_size, num_blocks, spatial_heads, channel_heads, fast
            )
        self.up = nn.ModuleList(
            VNetUpStage(spatial_dims, features[level + 1], features[level], lengths[level])
            for level in reversed(range(len(widths)))
        )
        self.head = Conv["CONV", spatial_dims](features[0], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, minimum=self.stride)
        size = list(x.shape[2:])
        x, raw = self.input(pad_to_multiple(x, self.stride))
        skips: list[torch.Tensor] = []
        for down in self.down:
            skips.append(x if self.dca is None else raw)
            x, raw = down(x)
        if self.dca is not None:
            skips = self.dca(skips)
        skips = skips[::-1]
        for i, up in enumerate(self.up):
            x = up(x, skips[i])
        return crop_to(self.head(x), size)
