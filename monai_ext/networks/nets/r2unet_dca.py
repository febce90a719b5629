# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv, Pool

from monai_ext.networks.blocks.recurrent_residual_unit import RecurrentResidualUnit
from monai_ext.networks.nets.dual_cross_attention_unet import Attend, DualCrossAttentionUNet
from monai_ext.networks.weights import KeyRules

__all__ = ["R2UNetDCA"]


class R2UNetDCA(DualCrossAttentionUNet):
    """R2U-Net, of recurrent residual units, with Dual Cross-Attention in its skips, the paper's "R2U-Net (DCA)".

    The skips of the baseline are the units' outputs, the attention takes them before norm and ReLU. Published size
    (1 channel, 9 classes): 9,892,489 parameters, 9,781,929 without attention.

    Arguments, errors, shapes and the paper are those of :class:`.DualCrossAttentionUNet`.

    Examples::

        >>> R2UNetDCA(spatial_dims=2)(torch.rand(2, 1, 224, 224)).shape
        torch.Size([2, 9, 224, 224])
    """

    def build(self, features: list[int], out_channels: int, attend: Attend) -> None:
        *widths, deepest = features
        self.encoder = nn.ModuleList()
        channels = self.in_channels
        for width in widths:
            self.encoder.append(RecurrentResidualUnit(self.spatial_dims, channels, width))
            channels = width
        self.pool = Pool["MAX", self.spatial_dims](2)
        self.bottleneck = RecurrentResidualUnit(self.spatial_dims, channels, deepest)
        self.dca = attend(widths)

        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = deepest
        for width in reversed(widths):
            self.up.append(
                nn.Sequential(
                    UpSample(self.spatial_dims, mode="nontrainable"),
                    Convolution(self.spatial_dims, channels, width, act="RELU", norm="BATCH"),
                )
            )
            self.decoder.append(RecurrentResidualUnit(self.spatial_dims, 2 * width, width))
            channels = width
        self.head = Conv["CONV", self.spatial_dims](channels, out_channels, 1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        skips: list[torch.Tensor] = []
        for encode in self.encoder:
            x, raw = encode(x)
            skips.append(x if self.dca is None else raw)
            x = self.pool(x)
        return self.bottleneck(x)[0], skips

    def decode(self, x: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        for i, (up, decode) in enumerate(zip(self.up, self.decoder)):
            x = decode(torch.cat([up(x), skips[i]], dim=1))[0]
        return x

    # names in the authors' checkpoints -> ours
    key_rules: KeyRules = [
        *DualCrossAttentionUNet.key_rules,
        *[(rf"^rconv{i + 1}\.", f"encoder.{i}.") for i in range(4)],
        (r"^rconv5\.", "bottleneck."),
        *[(rf"^rconv{i + 6}\.", f"decoder.{i}.") for i in range(4)],
        *[(rf"^up{i + 1}\.conv\.", f"up.{i}.1.") for i in range(4)],
        (r"^(encoder\.\d|bottleneck|decoder\.\d)\.conv\.(?:conv\.)?", r"\1.project."),
        (r"\.norm_c\.", ".project_norm."),
        (r"\.block\.", ".recurrent."),
        (r"^(up\.\d\.1|.*\.recurrent\.0\.conv)\.norm\.", r"\1.adn.N."),
        (r"^out\.(?:conv\.)?", "head."),
    ]
