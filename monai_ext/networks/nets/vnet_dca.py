# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv

from monai_ext.networks.blocks.vnet_stage import VNetDownStage, VNetInputStage, VNetUpStage
from monai_ext.networks.nets.dual_cross_attention_unet import Attend, DualCrossAttentionUNet
from monai_ext.networks.weights import KeyRules

__all__ = ["VNetDCA"]


class VNetDCA(DualCrossAttentionUNet):
    """V-Net with Dual Cross-Attention in its skips, the paper's "V-Net (DCA)".

    The skips of the baseline are the stages' outputs, the attention takes them before norm and activation. Published
    size (2D, 1 channel, 9 classes): 36,079,266 parameters, 35,968,706 without attention. The latter count the first
    stage's projection, which only the attention reads.

    Arguments, errors, shapes and the paper are those of :class:`.DualCrossAttentionUNet`.

    Examples::

        >>> VNetDCA(spatial_dims=2)(torch.rand(2, 1, 224, 224)).shape
        torch.Size([2, 9, 224, 224])
    """

    def build(self, features: list[int], out_channels: int, attend: Attend) -> None:
        widths = features[:-1]
        lengths = [min(level + 1, 3) for level in range(len(features))]  # 1, 2, 3, 3, 3 convolutions
        self.input = VNetInputStage(self.spatial_dims, self.in_channels, features[0])
        self.down = nn.ModuleList(
            VNetDownStage(self.spatial_dims, coarse_in, coarse_out, length)
            for coarse_in, coarse_out, length in zip(features, features[1:], lengths[1:])
        )
        self.dca = attend(widths)
        self.up = nn.ModuleList(
            VNetUpStage(self.spatial_dims, features[level + 1], features[level], lengths[level])
            for level in reversed(range(len(widths)))
        )
        self.head = Conv["CONV", self.spatial_dims](features[0], out_channels, 1)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x, raw = self.input(x)
        skips: list[torch.Tensor] = []
        for down in self.down:
            skips.append(x if self.dca is None else raw)
            x, raw = down(x)
        return x, skips

    def decode(self, x: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        for i, up in enumerate(self.up):
            x = up(x, skips[i])
        return x

    # names in the authors' checkpoints -> ours
    key_rules: KeyRules = [
        *DualCrossAttentionUNet.key_rules,
        (r"^conv1\.", "input."),
        *[(rf"^conv{i + 2}\.", f"down.{i}.") for i in range(4)],
        *[(rf"^up{i + 1}\.", f"up.{i}.") for i in range(4)],
        (r"^(down|up)\.(\d)\.conv\.(\d)\.(?:conv\.)?(weight|bias)$", r"\1.\2.conv.\3.conv.\4"),
        (r"\.conv\.(\d)\.bn\.", r".conv.\1.adn.N."),
        (r"\.conv\.(\d)\.prelu\.", r".conv.\1.adn.A."),
        (r"^(input|up\.3)\.conv\.(?:conv\.)?(weight|bias)$", r"\1.conv.0.conv.\2"),  # their chains of one have no index
        (r"^input\.conv_skip\.(?:conv\.)?", "input.project."),
        (r"^(down|up)\.(\d)\.\1\.conv\.", r"\1.\2.\1."),
        *[(rf"\.{theirs}_in\.", f".up_{ours}.") for theirs, ours in (("bn", "norm"), ("prelu", "act"))],
        *[(rf"\.{theirs}\.", f".{ours}.") for theirs, ours in (("bn", "norm"), ("prelu", "act"))],
        (r"^out\.(?:conv\.)?", "head."),
    ]
