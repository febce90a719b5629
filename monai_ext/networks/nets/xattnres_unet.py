# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.blocks import UpSample
from monai.networks.layers.factories import Conv, Pool
from monai.networks.nets.basic_unet import TwoConv

from monai_ext.networks.blocks.cross_stage_attention_residual import CrossStageAttentionResidual
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_input_size, check_option, check_spatial_dims, crop_to, pad_to_multiple

__all__ = ["XAttnResUNet"]


class XAttnResUNet(TwoPaths):
    """A U-Net whose stages read every earlier stage, not only their neighbour: XAttnRes on a U-Net [1]_.

    The pool starts empty; each encoder stage adds its output ``e_i``, each decoder stage its ``d_i``. An encoder stage
    below the first reads ``e_1 .. e_(i-1)`` in place of the pooled map, a decoder stage reads ``e_1 .. e_S`` and the
    ``d_i`` made so far; see :class:`CrossStageAttentionResidual`.

    Inferred, as the paper is silent: the read is added to the skip map, so that no convolution changes its shape with
    ``mode``; encoder reads stand in place of max pooling; stages of two 3x3 convolutions without bias, each with batch
    norm and ReLU; a 1x1 convolution and linear interpolation with aligned corners on the way up.

    On the fast path reads share the averages of finer maps.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: number of classes.
        features: widths of the stages, from the finest to the coarsest.
        mode: what a decoder stage sees beside the coarser map: ``"skip"`` the skip map plus the read, ``"replace"`` the
            read alone, ``"baseline"`` the skip map alone (a plain U-Net), ``"none"`` zeros. No other parameter changes
            name or shape.
        inject: with ``mode="skip"``, ``"add"`` the read to the skip map, or ``"concat"`` it.
        encoder_reads: with ``mode`` ``"skip"`` or ``"replace"``, whether encoder stages read too.
        encoder_residual: add the encoder's reads to the pooled map, in place of replacing it.
        upsample: way up, one of the modes of :class:`monai.networks.blocks.UpSample`.

    Raises:
        ValueError: if an argument is not one of the above, or the input has other channels or a side below
            ``2 ** (len(features) - 1)``.

    Shape:
        - input: ``(B, in_channels, *spatial)``, each side at least ``2 ** (len(features) - 1)``
        - output: logits ``(B, out_channels, *spatial)``

    Examples::

        >>> net = XAttnResUNet(spatial_dims=2, in_channels=1, out_channels=9, features=(16, 32, 64, 128, 256)).eval()
        >>> net(torch.rand(1, 1, 224, 224)).shape
        torch.Size([1, 9, 224, 224])

    .. [1] Liu et al., "XAttnRes", arXiv:2604.03297.
    """

    # branches on these are resolved when scripting: a mode without reads has no modules to call there
    __constants__ = ["fast", "with_encoder_reads", "with_reads"]

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 9,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
        mode: str = "skip",
        inject: str = "add",
        encoder_reads: bool = True,
        encoder_residual: bool = False,
        upsample: str = "nontrainable",
    ) -> None:
        super().__init__()
        check_spatial_dims("XAttnResUNet", spatial_dims)
        check_option("XAttnResUNet", "mode", mode, ("skip", "replace", "baseline", "none"))
        check_option("XAttnResUNet", "inject", inject, ("add", "concat"))
        if len(features) < 2:
            raise ValueError(f"monai_ext: XAttnResUNet: features must name at least 2 stages, got {list(features)}.")
        if inject == "concat" and mode != "skip":
            raise ValueError(f"monai_ext: XAttnResUNet: inject='concat' needs a skip and a read, but mode is {mode!r}.")
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.minimum = 2 ** (len(features) - 1)
        self.with_skip = mode in ("skip", "baseline")
        self.with_reads = mode in ("skip", "replace")
        self.with_encoder_reads = self.with_reads and encoder_reads
        self.concat = inject == "concat"
        self.encoder_residual = encoder_residual
        widths = list(features)

        def stage(channels: int, width: int) -> TwoConv:
            return TwoConv(spatial_dims, channels, width, act="relu", norm="batch", bias=False)

        def read(enabled: bool, sources: list[int], width: int) -> nn.Module:
            return CrossStageAttentionResidual(spatial_dims, sources, width) if enabled else nn.Identity()

        self.pool = Pool["MAX", spatial_dims](2)
        self.halve = Pool["AVG", spatial_dims](2)
        self.encoder = nn.ModuleList(stage(c, w) for c, w in zip([in_channels, *widths], widths))
        self.encoder_reads = nn.ModuleList(
            read(self.with_encoder_reads, widths[: i + 1], widths[i]) for i in range(len(widths) - 1)
        )
        # from the coarsest stage to the finest
        self.up = nn.ModuleList()
        self.decoder_reads = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for i in reversed(range(len(widths) - 1)):
            made = widths[-2:i:-1]
            self.up.append(UpSample(spatial_dims, widths[i + 1], widths[i], 2, mode=upsample))
            self.decoder_reads.append(read(self.with_reads, widths + made, widths[i]))
            self.decoder.append(stage((3 if self.concat else 2) * widths[i], widths[i]))
        self.head = Conv["CONV", spatial_dims](widths[0], out_channels, 1)
        # reads run over channels: the layout that has them adjacent saves copies, and convolutions do not mind
        if spatial_dims == 2:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, self.minimum)
        size = list(x.shape[2:])
        x = pad_to_multiple(x, self.minimum)
        if self.fast and self.spatial_dims == 2:
            x = x.contiguous(memory_format=torch.channels_last)

        encoded: list[torch.Tensor] = []
        # averaged[i]: the maps of finer stages than i, at its resolution; each from its own version one stage up
        averaged: list[list[torch.Tensor]] = [[]]
        for stage, read in zip(self.encoder, self.encoder_reads):
            x = stage(x)
            encoded.append(x)
            if self.with_reads:
                averaged.append([self.halve(y) for y in averaged[-1] + encoded[-1:]])
            if self.with_encoder_reads:
                smaller = [side // 2 for side in x.shape[2:]]
                seen = read(averaged[-1] if self.fast else encoded, smaller)
                x = seen + self.pool(x) if self.encoder_residual else seen
            else:
                x = self.pool(x)
        x = self.encoder[-1](x)
        encoded.append(x)

        decoded: list[torch.Tensor] = []
        for i, (up, read, stage) in enumerate(zip(self.up, self.decoder_reads, self.decoder)):
            level = len(encoded) - 2 - i
            skip = encoded[level]
            x = up(x)
            if self.with_reads:
                sources = (averaged[level] + encoded[level:] if self.fast else encoded) + decoded
                # what is read has no name here, so that it is gone when the stage begins
                if self.concat:
                    x = torch.cat([x, skip, read(sources, skip.shape[2:])], dim=1)
                elif self.with_skip:
                    x = torch.cat([x, skip + read(sources, skip.shape[2:])], dim=1)
                else:
                    x = torch.cat([x, read(sources, skip.shape[2:])], dim=1)
            else:
                x = torch.cat([x, skip if self.with_skip else torch.zeros_like(skip)], dim=1)
            x = stage(x)
            decoded.append(x)
        return crop_to(self.head(x), size)
