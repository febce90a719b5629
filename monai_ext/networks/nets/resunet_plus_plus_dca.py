# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv

from monai_ext.networks.blocks.aspp import ASPP
from monai_ext.networks.blocks.dual_cross_attention import DualCrossAttention
from monai_ext.networks.blocks.pre_activation_residual import PreActivationResidual
from monai_ext.networks.blocks.skip_gate import SkipGate
from monai_ext.networks.blocks.squeeze_excite import SqueezeExcite
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, init_weights, pad_to_multiple

__all__ = ["ResUNetPlusPlusDCA"]


class ResUNetPlusPlusDCA(nn.Module):
    """ResUNet++ with Dual Cross-Attention in its skips: "ResUNet++ (DCA)" of [1]_.

    Residual units with squeeze-and-excitation, an atrous pyramid as bridge and another one before the head, gates on
    the decoder's maps. Three skips, so the tokens cover 4 pixels. Published size (1 channel, 9 classes): 13,120,780
    parameters, 13,090,092 without attention. Weights start as ``init_weights`` sets them: with PyTorch's defaults, the
    authors', it learns less than half as much in the same few steps.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes.
        img_size: size of the images in training, one number or one per axis. It bounds the number of tokens, see
            ``DualCrossAttention``: in 2D it matters above 512 pixels, in 3D above 64 voxels.
        attention: False gives the published baseline, which concatenates and gates with the same raw maps.
        features: channels of each level and of the bridge; five numbers, the first at least 8.
        patch_size: side of a token in pixels.
        num_blocks: repetitions of channel and spatial attention.
        spatial_heads: heads of the spatial attention.
        channel_heads: heads of the channel attention.
        fast: run the attention's rewritten form, see ``DualCrossAttention``; the numbers are the same.

    Raises:
        ValueError: if an argument or the input's shape does not fit.

    Shape:
        - input: ``(B, in_channels, *spatial)``, sides of at least 8; one image a batch trains from 16 on
        - output: ``(B, out_channels, *spatial)``, logits

    Examples::

        >>> net = ResUNetPlusPlusDCA(spatial_dims=2, in_channels=1, out_channels=9)
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
        patch_size: int = 4,
        num_blocks: int = 1,
        spatial_heads: int = 4,
        channel_heads: int = 1,
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_spatial_dims("ResUNetPlusPlusDCA", spatial_dims)
        if len(features) != 5:
            raise ValueError(f"ResUNetPlusPlusDCA: features must be five numbers, got {list(features)}.")
        first, second, third, fourth, bridge = features
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.input = nn.Sequential(
            Convolution(spatial_dims, in_channels, first, act="RELU", norm="BATCH"),
            Convolution(spatial_dims, first, first, conv_only=True),
        )
        self.input_skip = Conv["CONV", spatial_dims](in_channels, first, 3, padding=1)
        self.squeeze_excite = nn.ModuleList(
            [SqueezeExcite(first, 8), SqueezeExcite(second, 16), SqueezeExcite(third, 16)]
        )
        self.encoder = nn.ModuleList(
            PreActivationResidual(spatial_dims, fine, coarse, stride=2)
            for fine, coarse in ((first, second), (second, third), (third, fourth))
        )
        self.bridge = ASPP(spatial_dims, fourth, bridge, relu=False)
        self.dca: DualCrossAttention | None = None
        if attention:
            self.dca = DualCrossAttention(
                spatial_dims,
                (first, second, third),
                img_size,
                patch_size,
                num_blocks,
                spatial_heads,
                channel_heads,
                fast,
            )
        # (skip, coarse map, result) of each step up
        steps = ((third, bridge, fourth), (second, fourth, third), (first, third, second))
        self.gates = nn.ModuleList(SkipGate(spatial_dims, skip, coarse) for skip, coarse, _ in steps)
        self.up = UpSample(spatial_dims, mode="nontrainable", interp_mode="nearest", align_corners=None)
        self.decoder = nn.ModuleList(
            PreActivationResidual(spatial_dims, coarse + skip, result) for skip, coarse, result in steps
        )
        self.pyramid = ASPP(spatial_dims, second, first)
        self.head = Conv["CONV", spatial_dims](first, out_channels, 1)
        self.apply(init_weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, minimum=8)
        size = list(x.shape[2:])
        x = pad_to_multiple(x, 8)
        x = self.input(x) + self.input_skip(x)
        skips: list[torch.Tensor] = []
        for squeeze_excite, encode in zip(self.squeeze_excite, self.encoder):
            skips.append(x)
            x = encode(squeeze_excite(x))
        x = self.bridge(x)
        if self.dca is not None:
            skips = self.dca(skips)
        skips = skips[::-1]
        for i, (gate, decode) in enumerate(zip(self.gates, self.decoder)):
            x = decode(torch.cat([self.up(gate(skips[i], x)), skips[i]], dim=1))
        return crop_to(self.head(self.pyramid(x)), size)
