# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv

from monai_ext.networks.blocks.channel_layer_norm import ChannelLayerNorm
from monai_ext.networks.blocks.channel_spatial_feature_fusion import ChannelSpatialFeatureFusion
from monai_ext.networks.blocks.concatenation_fusion import ConcatenationFusion
from monai_ext.networks.blocks.dca_block import DCABlock
from monai_ext.networks.blocks.differential_cross_attention import scheduled_lambda
from monai_ext.networks.blocks.expand_head import ExpandHead
from monai_ext.networks.blocks.interpolate_project import InterpolateProject
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import (
    check_input_size,
    check_option,
    check_spatial_dims,
    crop_to,
    init_weights,
    pad_to_multiple,
)
from monai_ext.networks.weights import load_strict, read_weights

__all__ = ["DCAUNet", "DCAUNetEncoder"]


class DCAUNetEncoder(TwoPaths):
    """Four stages of patch embedding and DCA blocks: the encoder of :class:`DCAUNet`, for pre-training on its own.

    Args: see :class:`DCAUNet`.

    Shape:
        - input: ``(B, in_channels, *spatial)``, sides being multiples of 32
        - output: four maps, ``(B, channels[i], *(spatial / (4, 8, 16, 32)[i]))``

    Examples::

        >>> [tuple(y.shape[1:]) for y in DCAUNetEncoder(2)(torch.rand(1, 3, 224, 224))]
        [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 3,
        channels: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (3, 4, 8, 3),
        head_dim: int = 32,
        window_size: int = 7,
        attention: str = "differential",
        lambda_init: float | None = None,
        norm_position: str = "pre",
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if in_channels < 1:
            raise ValueError(f"monai_ext: DCAUNet: in_channels must be at least 1, got {in_channels}.")
        if len(channels) != 4:
            raise ValueError(f"monai_ext: DCAUNet: channels must hold four widths, one a stage, got {channels}.")
        if len(depths) != 4 or min(depths) < 1:
            raise ValueError(f"monai_ext: DCAUNet: depths must hold four numbers from 1 on, one a stage, got {depths}.")
        # a grey image is repeated, so that it can use weights that were trained on colour images
        self.repeats = 3 if in_channels == 1 else 1
        width = in_channels * self.repeats
        layer = 0
        self.stages = nn.ModuleList()
        for stage, (features, depth) in enumerate(zip(channels, depths)):
            patch = 4 if stage == 0 else 2
            embed = nn.Sequential(
                Conv["CONV", spatial_dims](width, features, patch, stride=patch), ChannelLayerNorm(features)
            )
            blocks = nn.Sequential()
            for _ in range(depth):
                layer += 1
                blocks.append(
                    DCABlock(
                        spatial_dims,
                        features,
                        head_dim=head_dim,
                        window_size=window_size,
                        attention=attention,
                        lambda_init=scheduled_lambda(layer) if lambda_init is None else lambda_init,
                        norm_position=norm_position,
                    )
                )
            self.stages.append(nn.Sequential(OrderedDict(embed=embed, blocks=blocks)))
            width = features

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if self.repeats > 1:
            x = torch.cat([x] * self.repeats, dim=1)
        features: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DCAUNet(TwoPaths):
    """U-Net of differential cross attention, with skips fused by channel and spatial attention [1]_.

    The encoder's blocks (:class:`DCABlock`) let every position attend to the means of 7x7 windows by the difference of
    two softmax maps; three :class:`ChannelSpatialFeatureFusion` bring the skips in. Not to be confused with the
    networks of Dual Cross-Attention, such as ``UNetDCA``.

    No reference code is public. Widths, depths, patch embedding, fusion and head are chosen such that the published
    21.56 M parameters and 4.67 G multiply-adds (224x224, 9 classes, 2D) come out: 21,564,271 and 4.67 G by the same
    counter.

    Args:
        spatial_dims: 2 or 3; in 3D windows are cubes.
        in_channels: channels of the input. One channel is repeated to three, so networks for 1 and for 3 channels have
            the same weights.
        out_channels: classes, background included.
        channels: widths of the four stages, multiples of ``head_dim``.
        depths: DCA blocks of the four stages.
        head_dim: channels of one attention head; even.
        window_size: side of the windows whose means are the keys.
        attention: ``"differential"`` or ``"standard"`` (Table IV).
        lambda_init: constant part of lambda in every block (Table IV: 0.5 and 0.8); None for the published schedule
            over the blocks, from 0.2 in the first towards 0.8.
        norm_position: ``"pre"`` or ``"post"``, see :class:`DCABlock`.
        fusion: ``"csff"``, or ``"unet"`` for concatenation and two convolutions (Table V).
        channel_attention: ``False`` leaves it out of the fusion blocks (Table V).
        spatial_attention: ``False`` leaves it out of the fusion blocks (Table V).
        pretrained: file with a ``state_dict`` of the encoder, as ``torch.save`` writes it: of :class:`DCAUNetEncoder`,
            or of a whole DCAUNet, whose decoder is then left aside.

    Raises:
        ValueError: if an argument is out of its range, ``pretrained`` does not fit, or an input has other channels or a
            side below 32.

    Shape:
        - input: ``(B, in_channels, *spatial)``, every side at least 32
        - output: ``(B, out_channels, *spatial)``, logits

    Examples::

        >>> net = DCAUNet(spatial_dims=2, in_channels=1, out_channels=9)
        >>> net(torch.rand(1, 1, 224, 224)).shape
        torch.Size([1, 9, 224, 224])

    .. [1] Li et al., "DCAU-Net", arXiv:2603.09530.
    """

    bfloat16_inference = ("encoder.stages.*.mlp",)  # with other parts small organs change
    bfloat16_training = True  # precisions differ less than seeds: docs/results/performance.md
    fixed_size = True  # of its graph: which stages have several windows depends on the size

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 9,
        channels: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (3, 4, 8, 3),
        head_dim: int = 32,
        window_size: int = 7,
        attention: str = "differential",
        lambda_init: float | None = None,
        norm_position: str = "pre",
        fusion: str = "csff",
        channel_attention: bool = True,
        spatial_attention: bool = True,
        pretrained: str | os.PathLike | None = None,
    ) -> None:
        super().__init__()
        check_option("DCAUNet", "fusion", fusion, ("csff", "unet"))
        if out_channels < 1:
            raise ValueError(f"monai_ext: DCAUNet: out_channels must be at least 1, got {out_channels}.")
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.stride = 32  # of the last encoder stage
        self.encoder = DCAUNetEncoder(
            spatial_dims,
            in_channels,
            channels=channels,
            depths=depths,
            head_dim=head_dim,
            window_size=window_size,
            attention=attention,
            lambda_init=lambda_init,
            norm_position=norm_position,
        )
        self.ups = nn.ModuleList()
        self.fusions = nn.ModuleList()
        for deep, width in zip(channels[:0:-1], channels[-2::-1]):
            if fusion == "csff":
                self.ups.append(InterpolateProject(spatial_dims, deep, width))
                self.fusions.append(
                    ChannelSpatialFeatureFusion(
                        spatial_dims, width, channel_attention=channel_attention, spatial_attention=spatial_attention
                    )
                )
            else:
                mode = "bilinear" if spatial_dims == 2 else "trilinear"
                self.ups.append(nn.Upsample(scale_factor=2, mode=mode, align_corners=False))
                self.fusions.append(ConcatenationFusion(spatial_dims, width, deep))
        self.head = ExpandHead(spatial_dims, channels[0], out_channels)
        self.apply(init_weights)
        if pretrained is not None:
            load_encoder(self.encoder, pretrained)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, minimum=self.stride)
        features = self.encoder(pad_to_multiple(x, self.stride))
        y = features[3]
        for i, (up, fuse) in enumerate(zip(self.ups, self.fusions)):
            y = fuse(features[2 - i], up(y))
        return crop_to(self.head(y), list(x.shape[2:]))


def load_encoder(encoder: DCAUNetEncoder, path: str | os.PathLike) -> None:
    """Load a file with the ``state_dict`` of an encoder, or of a whole DCAUNet, into ``encoder``, strictly."""
    given = read_weights(path)
    inside = {key.removeprefix("encoder."): value for key, value in given.items() if key.startswith("encoder.")}
    load_strict(encoder, inside or given, os.fspath(path))
