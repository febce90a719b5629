# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Norm

from monai_ext.networks.blocks.eucb import EUCB
from monai_ext.networks.blocks.lgag import LGAG
from monai_ext.networks.blocks.mscam import MSCAM
from monai_ext.networks.blocks.spatial_attention import SpatialAttention
from monai_ext.networks.nets.pvt_v2 import PVT_KEY_RULES, PVTv2
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, pad_to_multiple
from monai_ext.networks.weights import KeyRules

__all__ = ["EMCADNet"]


class EMCADNet(TwoPaths):
    """EMCAD: a light decoder of multi-scale convolutional attention behind a pyramid vision transformer [1]_.

    At each level the coarser map is doubled, a grouped gate lets part of the skip map pass, both are added and refined
    by channel attention, spatial attention (one module for all levels) and depth-wise convolutions of several sizes.
    Published: 26.77 million parameters with ``pvt_v2_b2``, 3.92 million with ``pvt_v2_b0``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input. The encoder reads 3; any other number first goes through a 1x1 convolution
            to 3. That adapter is there with 3 channels too, so that the authors' checkpoints fit, but frozen.
        out_channels: number of classes.
        encoder: variant of :class:`PVTv2`.
        reductions: see :class:`PVTv2`.
        kernel_sizes: sides of the decoder's depth-wise kernels (the paper's ablation of kernels).
        expansion: inner width of the decoder's convolution blocks, in multiples of their channels.
        act: activation of the decoder's convolution blocks; the authors train with ReLU6.
        drop_path_rate: see :class:`PVTv2`.
        pretrained: path of the encoder's ImageNet weights, see :class:`PVTv2`.

    Raises:
        ValueError: if an argument is not one of the above, the weights do not fit, or the input has other channels or a
            side below 32.

    Shape:
        - input: ``(B, in_channels, *spatial)``, each side at least 32
        - output in ``eval()``: logits ``(B, out_channels, *spatial)``
        - output in ``train()``: list of four such logits, from the coarsest level to the finest, the one of ``eval()``

    Examples::

        >>> net = EMCADNet(spatial_dims=2, in_channels=1, out_channels=9).eval()
        >>> net(torch.rand(1, 1, 224, 224)).shape
        torch.Size([1, 9, 224, 224])

    .. [1] Rahman et al., "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image
       Segmentation", arXiv:2405.06880.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 9,
        encoder: str = "pvt_v2_b2",
        reductions: Sequence[int | Sequence[int]] = (8, 4, 2, 1),
        kernel_sizes: Sequence[int] = (1, 3, 5),
        expansion: int = 2,
        act: str | tuple = "relu6",
        drop_path_rate: float = 0.1,
        pretrained: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.up_mode = "bilinear" if spatial_dims == 2 else "trilinear"
        conv, norm = Conv["CONV", spatial_dims], Norm["BATCH", spatial_dims]
        self.adapter = nn.Sequential(conv(in_channels if in_channels != 3 else 1, 3, 1), norm(3), nn.ReLU())
        if in_channels == 3:
            self.adapter.requires_grad_(False)
        self.encoder = PVTv2(spatial_dims, 3, encoder, reductions, drop_path_rate, pretrained)

        # from the coarsest level to the finest
        widths = self.encoder.widths[::-1]
        shared = SpatialAttention(spatial_dims)
        self.mscam = nn.ModuleList(MSCAM(spatial_dims, width, kernel_sizes, expansion, act, shared) for width in widths)
        self.up = nn.ModuleList(EUCB(spatial_dims, coarse, fine) for coarse, fine in itertools.pairwise(widths))
        self.gate = nn.ModuleList(LGAG(spatial_dims, width) for width in widths[1:])
        for part in (self.mscam, self.up, self.gate):
            part.apply(_init_decoder_weights)
        self.heads = nn.ModuleList(conv(width, out_channels, 1) for width in widths)

    def decode(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Turn the encoder's maps, finest first, into the decoder's, coarsest first."""
        maps: list[torch.Tensor] = []
        x = features[-1]
        for i, (mscam, up, gate) in enumerate(zip(self.mscam, self.up, self.gate)):
            maps.append(mscam(x))
            coarse = up(maps[-1])
            x = coarse + gate(coarse, features[2 - i])
        maps.append(self.mscam[-1](x))
        return maps

    def adapt(self, x: torch.Tensor) -> torch.Tensor:
        """The adapter, its 1x1 convolution written as products, which autocast leaves in float32.

        All contrast goes through its three maps; rounded to half precision, what the norm then enlarges is mostly
        rounding: 0.15 % of the labels with float16, and 2 points of a class's Dice.
        """
        convolution = self.adapter[0]
        y = (x.unsqueeze(1) * convolution.weight[None]).sum(2)  # type: ignore[index]
        bias = convolution.bias
        if bias is not None:
            y = y + bias.reshape([1, 3] + [1] * self.spatial_dims)  # type: ignore[operator]
        return self.adapter[2](self.adapter[1](y))

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        check_input_size(x, self.in_channels, self.spatial_dims, 32)
        size = list(x.shape[2:])
        x = pad_to_multiple(x, 32)
        padded_size = x.shape[2:]
        if self.in_channels != 3:
            x = self.adapt(x)
        maps = self.decode(self.encoder(x))
        logits: list[torch.Tensor] = []
        for i, head in enumerate(self.heads):
            if self.training or i == len(maps) - 1:
                y = F.interpolate(head(maps[i]), size=padded_size, mode=self.up_mode, align_corners=False)
                logits.append(crop_to(y, size))
        if self.training:
            return logits
        return logits[0]

    # names in the authors' checkpoints -> ours, whose levels count down to 1, the finest
    key_rules: KeyRules = [
        *PVT_KEY_RULES,
        (r"^backbone\.", "encoder."),
        (r"^conv\.", "adapter."),
        *[(rf"^(?:decoder\.)?(mscb|cab|out_head){level}\.", rf"\1.{4 - level}.") for level in (4, 3, 2, 1)],
        *[(rf"^decoder\.(eucb|lgag){level}\.", rf"\1.{3 - level}.") for level in (3, 2, 1)],
        (r"^mscb\.(\d)\.0\.pconv1\.", r"mscam.\1.convolution.expand."),
        (r"^mscb\.(\d)\.0\.msdc\.dwconvs\.", r"mscam.\1.convolution.branches."),
        (r"^mscb\.(\d)\.0\.pconv2\.", r"mscam.\1.convolution.project."),
        (r"^cab\.(\d)\.", r"mscam.\1.channel_attention."),
        (r"^decoder\.sab\.", "mscam.0.spatial_attention."),
        (r"^eucb\.(\d)\.up_dwc\.", r"up.\1.up."),
        (r"^eucb\.(\d)\.pwc\.0\.", r"up.\1.project."),
        (r"^lgag\.(\d)\.W_g\.", r"gate.\1.from_gate."),
        (r"^lgag\.(\d)\.W_x\.", r"gate.\1.from_skip."),
        (r"^lgag\.(\d)\.psi\.", r"gate.\1.score."),
        (r"^out_head\.", "heads."),
    ]


def _init_decoder_weights(module: nn.Module) -> None:
    """Initialise as the authors do."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
