# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import partial

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv, Norm, Pool

from monai_ext.networks.nets.dual_cross_attention_unet import Attend, DualCrossAttentionUNet
from monai_ext.networks.weights import KeyRules

__all__ = ["UNetDCA"]


class UNetDCA(DualCrossAttentionUNet):
    """U-Net with Dual Cross-Attention in its skips, the paper's "U-Net (DCA)".

    Two 3x3 convolutions a level; the second one's raw output is the skip, with attention or without, its norm and
    activation serve the way down only. Published size (1 channel, 9 classes): 8,747,593 parameters, 8,637,033 without
    attention.

    Arguments, errors, shapes and the paper are those of :class:`.DualCrossAttentionUNet`.

    Examples::

        >>> UNetDCA(spatial_dims=2)(torch.rand(2, 1, 224, 224)).shape
        torch.Size([2, 9, 224, 224])
    """

    def build(self, features: list[int], out_channels: int, attend: Attend) -> None:
        conv_norm_relu = partial(Convolution, self.spatial_dims, act="RELU", norm="BATCH")
        conv_only = partial(Convolution, self.spatial_dims, conv_only=True)
        *widths, deepest = features

        self.encoder = nn.ModuleList()
        self.encoder_norm = nn.ModuleList()
        channels = self.in_channels
        for width in widths:
            self.encoder.append(nn.Sequential(conv_norm_relu(channels, width), conv_only(width, width)))
            self.encoder_norm.append(Norm["BATCH", self.spatial_dims](width))
            channels = width
        self.pool = Pool["MAX", self.spatial_dims](2)
        self.bottleneck = nn.Sequential(conv_norm_relu(channels, deepest), conv_norm_relu(deepest, deepest))
        self.dca = attend(widths)

        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = deepest
        for width in reversed(widths):
            self.up.append(
                nn.Sequential(UpSample(self.spatial_dims, mode="nontrainable"), conv_norm_relu(channels, width))
            )
            self.decoder.append(nn.Sequential(conv_norm_relu(2 * width, width), conv_norm_relu(width, width)))
            channels = width
        self.head = Conv["CONV", self.spatial_dims](channels, out_channels, 1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        skips: list[torch.Tensor] = []
        for encode, norm in zip(self.encoder, self.encoder_norm):
            x = encode(x)
            skips.append(x)
            x = torch.relu(self.pool(norm(x)))  # the maximum commutes with ReLU, which then sees fewer pixels
        return self.bottleneck(x), skips

    # names in the authors' checkpoints -> ours
    key_rules: KeyRules = [
        *DualCrossAttentionUNet.key_rules,
        *[(rf"^conv{i + 1}\.", f"encoder.{i}.") for i in range(4)],
        *[(rf"^norm{i + 1}\.", f"encoder_norm.{i}.") for i in range(4)],
        (r"^conv5\.", "bottleneck."),
        *[(rf"^up{i + 1}\.conv\.", f"up.{i}.1.") for i in range(4)],
        *[(rf"^upconv{i + 1}\.", f"decoder.{i}.") for i in range(4)],
        *[(rf"\.conv{i + 1}\.", f".{i}.") for i in range(2)],
        (r"^(encoder|bottleneck|up|decoder)\.(.*)\.norm\.", r"\1.\2.adn.N."),
        (r"^out\.(?:conv\.)?", "head."),
    ]
