# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from monai.networks.blocks import UpSample
from monai.networks.layers.factories import Conv, Pool

from monai_ext.networks.blocks.aspp import ASPP
from monai_ext.networks.blocks.squeeze_excite_unit import SqueezeExciteUnit
from monai_ext.networks.nets.dual_cross_attention_unet import ASPP_KEY_RULES, Attend, DualCrossAttentionUNet
from monai_ext.networks.utils import check_input_size, check_option, check_spatial_dims, crop_to, pad_to_multiple
from monai_ext.networks.weights import KeyRules

__all__ = ["DoubleUNetDCA"]


class DoubleUNetDCA(DualCrossAttentionUNet):
    """DoubleU-Net with three Dual Cross-Attentions: "DoubleUnet (DCA)" of [1]_, for pictures.

    A first U-Net with the encoder of VGG19 weights the image; a second one segments the weighted image and reads the
    skips of both. The first network's skips pass one attention for its own decoder, then another one for the second
    decoder; the second network's skips have a third. Published size (9 classes): 29,683,820 parameters without
    attention. With it the README of [1]_ says 30.68 M, but the published file does not run; repaired as its first
    version suggests (one grid and one set of scales for all three) it has 30,584,780.

    The image should come in with values of 0 to 1: ImageNet's mean and standard deviation are applied inside.

    Args:
        spatial_dims: 2; VGG19 has no third dimension.
        in_channels: 3, or 1, which is repeated three times.
        attention: False gives the published baseline: raw skips, the first network's in both decoders.
        vgg_features: channels of the first encoder's five stages.
        features: channels of the second encoder's four levels, at least 8; both decoders have them in reverse.
        kwargs: all other arguments, errors and shapes are those of :class:`.DualCrossAttentionUNet`.

    Examples::

        >>> net = DoubleUNetDCA(spatial_dims=2, in_channels=3, out_channels=9)
        >>> net(torch.rand(2, 3, 224, 224)).shape
        torch.Size([2, 9, 224, 224])

    .. [1] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696,
        https://github.com/gorkemcanates/Dual-Cross-Attention.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 9,
        img_size: Sequence[int] | int = 224,
        attention: bool = True,
        vgg_features: Sequence[int] = (64, 128, 256, 512, 512),
        features: Sequence[int] = (32, 64, 128, 256),
        **kwargs: Any,
    ) -> None:
        check_spatial_dims("DoubleUNetDCA", spatial_dims, allowed=(2,))
        check_option("DoubleUNetDCA", "in_channels", in_channels, (1, 3))
        if len(vgg_features) != 5 or len(features) != 4:
            raise ValueError(
                "monai_ext: DoubleUNetDCA: vgg_features must be five numbers and features four, "
                f"got {list(vgg_features)} and {list(features)}."
            )
        super().__init__(
            spatial_dims, in_channels, out_channels, img_size, attention, features, vgg_features=vgg_features, **kwargs
        )

    def build(self, features: list[int], out_channels: int, attend: Attend, vgg_features: Sequence[int] = ()) -> None:
        self.stride = 16
        self.mean = nn.Buffer(torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1), persistent=False)
        self.pool = Pool["MAX", 2](2)
        self.up = UpSample(2, mode="nontrainable")
        pyramid = 2 * features[0]
        *vgg_widths, vgg_deepest = vgg_features

        self.vgg = nn.ModuleList(
            _vgg_stage(fine, coarse, length)
            for fine, coarse, length in zip([3, *vgg_features], vgg_features, (2, 2, 4, 4, 4))
        )
        self.pyramid1 = _pyramid(vgg_deepest, pyramid)
        self.dca_vgg1 = attend(vgg_widths)
        self.dca_vgg2 = attend(vgg_widths)
        self.dca = attend(features)
        self.decoder1 = nn.ModuleList()
        channels = pyramid
        for vgg_width, width in zip(reversed(vgg_widths), reversed(features)):
            self.decoder1.append(SqueezeExciteUnit(2, vgg_width + channels, width))
            channels = width
        self.head1 = Conv["CONV", 2](channels, 3, 1)

        self.encoder2 = nn.ModuleList(
            SqueezeExciteUnit(2, fine, coarse) for fine, coarse in zip([3, *features], features)
        )
        self.pyramid2 = _pyramid(features[-1], pyramid)
        self.decoder2 = nn.ModuleList()
        channels = pyramid
        for vgg_width, width in zip(reversed(vgg_widths), reversed(features)):
            self.decoder2.append(SqueezeExciteUnit(2, vgg_width + width + channels, width))
            channels = width
        self.head2 = Conv["CONV", 2](channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, 2, minimum=self.stride)
        size = list(x.shape[2:])
        image = pad_to_multiple((x.expand(-1, 3, -1, -1) - self.mean) / self.std, self.stride)

        x = image
        vgg_skips: list[torch.Tensor] = []
        for stage in self.vgg:
            if len(vgg_skips) > 0:
                x = self.pool(torch.relu(x))
            x = stage(x)
            vgg_skips.append(x)
        x = self.pyramid1(torch.relu(vgg_skips.pop()))
        if self.dca_vgg1 is not None:
            vgg_skips = self.dca_vgg1(vgg_skips)
        skips = vgg_skips[::-1]
        for i, decode in enumerate(self.decoder1):
            x = decode(torch.cat([skips[i], self.up(x)], dim=1))[0]

        x = torch.sigmoid(self.head1(x)) * image
        own_skips: list[torch.Tensor] = []
        for encode in self.encoder2:
            x, raw = encode(x)
            own_skips.append(raw)
            x = self.pool(x)
        x = self.pyramid2(x)
        if self.dca_vgg2 is not None and self.dca is not None:
            vgg_skips = self.dca_vgg2(vgg_skips)
            own_skips = self.dca(own_skips)
        skips = vgg_skips[::-1]
        own_skips = own_skips[::-1]
        for i, decode in enumerate(self.decoder2):
            x = decode(torch.cat([skips[i], own_skips[i], self.up(x)], dim=1))[0]
        return crop_to(self.head2(x), size)

    # names in the authors' checkpoints -> ours
    key_rules: KeyRules = [
        (r"^DCA_vgg", "dca_vgg"),
        *DualCrossAttentionUNet.key_rules,
        *[
            (rf"^vgg{stage + 1}\.{first + 2 * i}\.", f"vgg.{stage}.{2 * i}.")  # index among all of VGG19's layers
            for stage, first in enumerate((0, 5, 10, 19, 28))
            for i in range(4)
        ],
        *[(rf"^decode{i + 1}\.", f"decoder1.{i}.") for i in range(4)],
        *[(rf"^(en|de)code2_{i + 1}\.", rf"\1coder2.{i}.") for i in range(4)],
        (r"^((?:en|de)coder\d\.\d)\.conv([12])\.norm\.", r"\1.conv\2.adn.N."),
        *[(rf"^((?:en|de)coder\d\.\d)\.conv{i + 1}\.", rf"\1.conv.{i}.") for i in range(2)],
        (r"\.bn\.", ".norm."),
        (r"\.se\.fc\.", ".squeeze_excite.mlp."),
        (r"^aspp_", "pyramid"),
        *ASPP_KEY_RULES,
        (r"^out1\.0\.(?:conv\.)?", "head1."),
        (r"^out\.(?:conv\.)?", "head2."),
    ]


def _vgg_stage(in_channels: int, out_channels: int, length: int) -> nn.Sequential:
    """Convolutions with ReLU between them, initialised as VGG's; the last one's output stays raw."""
    stage = nn.Sequential()
    for i in range(length):
        conv = Conv["CONV", 2](in_channels, out_channels, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        if i > 0:
            stage.append(nn.ReLU())
        stage.append(conv)
        in_channels = out_channels
    return stage


def _pyramid(in_channels: int, out_channels: int) -> ASPP:
    """The atrous pyramid of DoubleU-Net."""
    return ASPP(
        2, in_channels, out_channels, kernel_sizes=(1, 3, 3, 3, 3), dilations=(1, 1, 6, 12, 18), merge="cat", bias=False
    )
