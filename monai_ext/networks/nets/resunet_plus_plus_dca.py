# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv

from monai_ext.networks.blocks.aspp import ASPP
from monai_ext.networks.blocks.pre_activation_residual import PreActivationResidual
from monai_ext.networks.blocks.skip_gate import SkipGate
from monai_ext.networks.blocks.squeeze_excite import SqueezeExcite
from monai_ext.networks.nets.dual_cross_attention_unet import ASPP_KEY_RULES, Attend, DualCrossAttentionUNet
from monai_ext.networks.utils import WEIGHTS_FOLLOW, init_weights
from monai_ext.networks.weights import KeyRules

__all__ = ["ResUNetPlusPlusDCA"]


class ResUNetPlusPlusDCA(DualCrossAttentionUNet):
    """ResUNet++ with Dual Cross-Attention in its skips, the paper's "ResUNet++ (DCA)".

    Residual units with squeeze-and-excitation, an atrous pyramid as bridge and another one before the head, gates on
    the decoder's maps. Without attention gates and concatenations read the same raw maps. Three skips, so inputs have
    sides of at least 8, tokens cover 4 pixels, and ``img_size`` matters above 512 pixels, in 3D above 64 voxels.
    Published size (1 channel, 9 classes): 13,120,780 parameters, 13,090,092 without attention. Weights start as
    ``init_weights`` sets them: with PyTorch's defaults, the authors', it learns less than half as much in the same few
    steps.

    Args:
        features: channels of each level and of the bridge; five numbers, the first at least 8.
        kwargs: all other arguments, errors, shapes and the paper are those of :class:`.DualCrossAttentionUNet`.

    Examples::

        >>> ResUNetPlusPlusDCA(spatial_dims=2)(torch.rand(2, 1, 224, 224)).shape
        torch.Size([2, 9, 224, 224])
    """

    published_patch_size = 4

    def build(self, features: list[int], out_channels: int, attend: Attend) -> None:
        if len(features) != 5:
            raise ValueError(f"monai_ext: ResUNetPlusPlusDCA: features must be five numbers, got {list(features)}.")
        first, second, third, fourth, bridge = features
        spatial_dims, in_channels = self.spatial_dims, self.in_channels
        self.stride = 8  # three levels; the fifth number is the bridge's
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
        self.dca = attend((first, second, third))
        # (skip, coarse map, result) of each step up
        steps = ((third, bridge, fourth), (second, fourth, third), (first, third, second))
        gates = [SkipGate(spatial_dims, skip, coarse) for skip, coarse, _ in steps]
        self.gates = nn.ModuleList(gates)
        self.up = UpSample(spatial_dims, mode="nontrainable", interp_mode="nearest", align_corners=None)
        self.decoder = nn.ModuleList(
            PreActivationResidual(spatial_dims, coarse + skip, result) for skip, coarse, result in steps
        )
        self.pyramid = ASPP(spatial_dims, second, first)
        self.head = Conv["CONV", spatial_dims](first, out_channels, 1)
        self.apply(init_weights)
        for gate in gates if not WEIGHTS_FOLLOW.get() else []:
            # of one output: by the outputs it would multiply maps by 20, thrice, and float16 overflow
            nn.init.kaiming_normal_(gate.weight_conv.weight, nonlinearity="relu")

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x = self.input(x) + self.input_skip(x)
        skips: list[torch.Tensor] = []
        for squeeze_excite, encode in zip(self.squeeze_excite, self.encoder):
            skips.append(x)
            x = encode(squeeze_excite(x))
        return self.bridge(x), skips

    def decode(self, x: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        for i, (gate, decode) in enumerate(zip(self.gates, self.decoder)):
            x = decode(torch.cat([self.up(gate(skips[i], x)), skips[i]], dim=1))
        return self.pyramid(x)

    # names in the authors' checkpoints -> ours
    key_rules: KeyRules = [
        *DualCrossAttentionUNet.key_rules,
        (r"^input_layer\.0\.norm\.", "input.0.adn.N."),
        (r"^input_layer\.(\d)\.(?:conv\.)?(weight|bias)$", r"input.\1.conv.\2"),
        (r"^input_skip\.0\.(?:conv\.)?", "input_skip."),
        *[(rf"^squeeze_excite{i + 1}\.fc\.", f"squeeze_excite.{i}.mlp.") for i in range(3)],
        *[(rf"^residual_conv{i + 1}\.", f"encoder.{i}.") for i in range(3)],
        *[(rf"^up_residual_conv{i + 1}\.", f"decoder.{i}.") for i in range(3)],
        *[(rf"\.conv\.{2 * i}\.bn\.", f".norm{i + 1}.") for i in range(2)],
        *[(rf"^(encoder|decoder)\.(\d)\.conv\.{2 * i + 1}\.(?:conv\.)?", rf"\1.\2.conv{i + 1}.") for i in range(2)],
        (r"\.skip\.conv\.", ".skip."),
        (r"^aspp_bridge\.", "bridge."),
        (r"^aspp_out\.", "pyramid."),
        *ASPP_KEY_RULES,
        *[(rf"^attn{i + 1}\.", f"gates.{i}.") for i in range(3)],
        # the gates' norms have two names each in the official state_dict
        *[
            (rf"^(gates\.\d)\.(?:norm{i + 1}|conv_{theirs}\.0)\.", rf"\1.{ours}norm.")
            for i, (theirs, ours) in enumerate((("encoder", "skip_"), ("decoder", ""), ("attn", "weight_")))
        ],
        *[
            (rf"\.conv_{theirs}\.2\.(?:conv\.)?", f".{ours}conv.")
            for theirs, ours in (("encoder", "skip_"), ("decoder", ""), ("attn", "weight_"))
        ],
        (r"^output_layer\.(?:conv\.)?", "head."),
    ]
