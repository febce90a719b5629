# SPDX-License-Identifier: Apache-2.0
"""Networks of other libraries to compare with, sized by the shape of what they see.

``basic_unet``, ``dynunet``, ``segresnet`` and ``swinunetr`` are MONAI's; ``plain_unet`` and ``resenc_unet`` are
nnU-Net's own classes, from the package ``dynamic-network-architectures`` (``pip install "monai-ext[compare]"``). All
are functions that a config's ``network_def`` can name; what they return takes inputs of any size.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from monai.networks.layers import Conv, Norm
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, SwinUNETR

from monai_ext.networks.utils import check_spatial_dims, crop_to, pad_to_multiple

__all__ = ["Baseline", "basic_unet", "dynunet", "plain_unet", "resenc_unet", "segresnet", "stage_plan", "swinunetr"]

SMALLEST = 4  # positions of a side in the deepest stage, at the least
WIDEST = {2: 512, 3: 320}  # features of the deepest stages
RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6)  # of the encoder's stages; any deeper one has as many as the last


class Baseline(nn.Module):
    """A network of another library as those here are: any size of input, and one tensor of logits in ``eval()``.

    Args:
        network: takes inputs whose sides are multiples of ``multiple``.
        multiple: inputs are padded with zeros to it, and outputs cropped.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *spatial)``; in ``train()`` with deep supervision a list of them, the finest
          first, each further one at half the size
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        size = list(x.shape[2:])
        padded = pad_to_multiple(x, self.multiple)
        found = self.network(padded)
        if isinstance(found, torch.Tensor):
            return crop_to(found, size)
        whole = padded.shape[2:]  # what is at half the size is cropped to half the sides
        return [crop_to(y, [-(-s * part // full) for s, part, full in zip(size, y.shape[2:], whole)]) for y in found]


class _DeeplySupervised(Baseline):
    """What is supervised deeply in training only."""

    def train(self, mode: bool = True) -> _DeeplySupervised:
        super().train(mode)
        decoder: Any = self.network.decoder
        decoder.deep_supervision = mode
        return self


def stage_plan(img_size: Sequence[int] | int, spatial_dims: int) -> tuple[list[int], list[list[int]]]:
    """Features and strides of a U-Net's stages, by the rules that nnU-Net 2 documents for its plans.

    A side is halved as long as the result has at least 4 positions; features start at 32 and double, up to 512 in 2D
    and 320 in 3D. (nnU-Net also looks at the spacing; here voxels count as cubes, which is how this library's bundles
    give them to their networks.)

    Args:
        img_size: of what the network sees, one number a side or one for all.
        spatial_dims: 2 or 3.

    Returns:
        features of each stage, and the strides, one a side, with which each begins.

    Examples::

        >>> stage_plan(224, 2)[0]
        [32, 64, 128, 256, 512, 512]
        >>> stage_plan([64, 64, 16], 3)
        ([32, 64, 128, 256, 320], [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]])
    """
    check_spatial_dims("stage_plan", spatial_dims)
    sides = [img_size] * spatial_dims if isinstance(img_size, int) else list(img_size)
    if len(sides) != spatial_dims or min(sides) < 1:
        raise ValueError(f"monai_ext: img_size must be {spatial_dims} sides of at least 1, got {img_size!r}.")
    strides = [[1] * spatial_dims]
    while any(halved := [side // 2 >= SMALLEST for side in sides]):
        strides.append([2 if half else 1 for half in halved])
        sides = [-(-side // 2) if half else side for side, half in zip(sides, halved)]
    return [min(32 * 2**stage, WIDEST[spatial_dims]) for stage in range(len(strides))], strides


def _multiple(strides: Sequence[Sequence[int]]) -> int:
    halvings = [sum(step == 2 for step in side) for side in zip(*strides)]
    return int(2 ** max(halvings))


def _needed(network: str, module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise ValueError(
            f"monai_ext: {network} needs the package {package}, which cannot be imported ({e}). Install it: "
            'pip install "monai-ext[compare]".'
        ) from e


def basic_unet(spatial_dims: int, in_channels: int, out_channels: int, img_size: Any = None) -> Baseline:
    """MONAI's ``BasicUNet`` as it comes: five stages, 32 to 256 features."""
    return Baseline(BasicUNet(spatial_dims, in_channels, out_channels), 16)


def dynunet(spatial_dims: int, in_channels: int, out_channels: int, img_size: Sequence[int] | int = 224) -> Baseline:
    """MONAI's ``DynUNet``, with the stages of :func:`stage_plan`, without deep supervision."""
    features, strides = stage_plan(img_size, spatial_dims)
    kernels = [[3] * spatial_dims] * len(strides)
    network = DynUNet(spatial_dims, in_channels, out_channels, kernels, strides, strides[1:], filters=features)
    return Baseline(network, _multiple(strides))


def segresnet(spatial_dims: int, in_channels: int, out_channels: int, img_size: Any = None) -> Baseline:
    """MONAI's ``SegResNet`` with the 32 features of its paper's first stage."""
    return Baseline(SegResNet(spatial_dims, 32, in_channels, out_channels), 8)


def swinunetr(spatial_dims: int, in_channels: int, out_channels: int, img_size: Any = None) -> Baseline:
    """MONAI's ``SwinUNETR`` with the 48 features of its paper.

    Raises:
        ValueError: if ``einops`` is not installed, which it computes with.
    """
    _needed("SwinUNETR", "einops", "einops")
    network = SwinUNETR(in_channels, out_channels, feature_size=48, spatial_dims=spatial_dims)
    return Baseline(network, 32)


def plain_unet(spatial_dims: int, in_channels: int, out_channels: int, img_size: Sequence[int] | int = 224) -> Baseline:
    """nnU-Net's ``PlainConvUNet``: stages of :func:`stage_plan`, two convolutions in each, deep supervision.

    Raises:
        ValueError: if ``dynamic-network-architectures`` is not installed.
    """
    return _planned("PlainConvUNet", "n_conv_per_stage", [2] * 99, 2, spatial_dims, in_channels, out_channels, img_size)


def resenc_unet(
    spatial_dims: int, in_channels: int, out_channels: int, img_size: Sequence[int] | int = 224
) -> Baseline:
    """nnU-Net's ``ResidualEncoderUNet``: stages of :func:`stage_plan` with 1, 3, 4, 6, 6, ... residual blocks.

    Its decoder has one convolution a stage; deep supervision.

    Raises:
        ValueError: if ``dynamic-network-architectures`` is not installed.
    """
    blocks = [*RESIDUAL_BLOCKS, *RESIDUAL_BLOCKS[-1:] * 99]
    return _planned(
        "ResidualEncoderUNet", "n_blocks_per_stage", blocks, 1, spatial_dims, in_channels, out_channels, img_size
    )


def _planned(
    name: str,
    depth: str,
    depths: Sequence[int],
    decoder: int,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    img_size: Sequence[int] | int,
) -> Baseline:
    unets = _needed(name, "dynamic_network_architectures.architectures.unet", "dynamic-network-architectures")
    features, strides = stage_plan(img_size, spatial_dims)
    network = getattr(unets, name)(
        input_channels=in_channels,
        n_stages=len(strides),
        features_per_stage=features,
        conv_op=Conv["CONV", spatial_dims],
        kernel_sizes=[[3] * spatial_dims] * len(strides),
        strides=strides,
        **{depth: list(depths[: len(strides)])},
        num_classes=out_channels,
        n_conv_per_stage_decoder=[decoder] * (len(strides) - 1),
        conv_bias=True,
        norm_op=Norm["INSTANCE", spatial_dims],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    network.apply(network.initialize)
    return _DeeplySupervised(network, _multiple(strides))
