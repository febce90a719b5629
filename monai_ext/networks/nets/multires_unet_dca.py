# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool

from monai_ext.networks.blocks.multires_block import MultiResBlock
from monai_ext.networks.blocks.res_path import ResPath
from monai_ext.networks.nets.dual_cross_attention_unet import Attend, DualCrossAttentionUNet
from monai_ext.networks.weights import KeyRules

__all__ = ["MultiResUNetDCA"]


class MultiResUNetDCA(DualCrossAttentionUNet):
    """MultiResUNet with Dual Cross-Attention behind its residual paths, the paper's "MultiResUNet (DCA)".

    Published size (1 channel, 9 classes): 7,354,800 parameters, 7,244,240 without attention. The former count the last
    norm of each path, which only the baseline reads: its skips are the paths' outputs, the attention takes them before
    norm and ReLU.

    Args:
        features: channels of a U-Net's levels that the blocks stand in for; they have ``alpha`` times as many. The
            paths and the attention have these.
        alpha: width of the blocks.
        kwargs: all other arguments, errors, shapes and the paper are those of :class:`.DualCrossAttentionUNet`.

    Examples::

        >>> MultiResUNetDCA(spatial_dims=2)(torch.rand(2, 1, 224, 224)).shape
        torch.Size([2, 9, 224, 224])
    """

    def build(self, features: list[int], out_channels: int, attend: Attend, alpha: float = 1.67) -> None:
        *widths, deepest = features
        self.encoder = nn.ModuleList()
        self.paths = nn.ModuleList()
        channels = self.in_channels
        for level, width in enumerate(widths):
            block = MultiResBlock(self.spatial_dims, channels, width, alpha)
            channels = block.out_channels
            self.encoder.append(block)
            self.paths.append(ResPath(self.spatial_dims, channels, width, length=len(widths) - level))
        self.pool = Pool["MAX", self.spatial_dims](2)
        self.bottleneck = MultiResBlock(self.spatial_dims, channels, deepest, alpha)
        channels = self.bottleneck.out_channels
        self.dca = attend(widths)

        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for width in reversed(widths):
            up = Convolution(
                self.spatial_dims,
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
            block = MultiResBlock(self.spatial_dims, 2 * width, width, alpha)
            channels = block.out_channels
            self.up.append(up)
            self.decoder.append(block)
        self.head = Conv["CONV", self.spatial_dims](channels, out_channels, 1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        skips: list[torch.Tensor] = []
        for encode, path in zip(self.encoder, self.paths):
            x = encode(x)
            skip, raw = path(x)
            skips.append(skip if self.dca is None else raw)
            x = self.pool(x)
        return self.bottleneck(x), skips

    # names in the authors' checkpoints -> ours
    key_rules: KeyRules = [
        *DualCrossAttentionUNet.key_rules,
        *[(rf"^mr{i + 1}\.", f"encoder.{i}.") for i in range(4)],
        (r"^mr5\.", "bottleneck."),
        *[(rf"^mr{i + 6}\.", f"decoder.{i}.") for i in range(4)],
        *[(rf"^respath{i + 1}\.", f"paths.{i}.") for i in range(4)],
        *[(rf"^up{i + 1}\.0\.(?:conv\.)?", f"up.{i}.conv.") for i in range(4)],
        *[(rf"^up{i + 1}\.1\.", f"up.{i}.adn.N.") for i in range(4)],
        (r"^paths\.(\d)\.bns\.", r"paths.\1.norms."),
        (r"^paths\.(\d)\.(convs|skips)\.(\d)\.conv\.", r"paths.\1.\2.\3."),
        *[(rf"\.c{i + 1}\.", f".convs.{i}.") for i in range(3)],
        (r"\.(convs\.\d|skip)\.norm\.", r".\1.adn.N."),
        (r"\.bn1\.", ".norm."),
        (r"^out\.(?:conv\.)?", "head."),
    ]
