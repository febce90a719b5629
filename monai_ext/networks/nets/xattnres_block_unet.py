# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool

from monai_ext.networks.blocks.intra_stage_attention_residual import IntraStageAttentionResidual
from monai_ext.networks.blocks.memory_routing import MemoryRouting
from monai_ext.networks.blocks.memory_stage import MemoryStage
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_input_size, check_spatial_dims, init_weights
from monai_ext.networks.weights import KeyRules

__all__ = ["XAttnResBlockUNet"]


class XAttnResBlockUNet(TwoPaths):
    """The authors' later, block-level revision of XAttnRes [1]_ on a U-Net.

    Every block's output is kept. A decoder stage does not receive the last map of its encoder stage but asks for a
    mixture of all of them (:class:`~monai_ext.networks.blocks.MemoryRouting`), and between the blocks of one stage an
    :class:`~monai_ext.networks.blocks.IntraStageAttentionResidual` mixes the stage's own maps.

    As published, that second attention is without effect before the second block of a stage: its memory then holds
    one map, twice. With the default two blocks per decoder stage, and no encoder attention, it never acts, and its
    7,272 parameters get no gradient. ``distinct_memory=True`` makes it act. The default network has 2,808,792
    parameters with 1 input channel and 9 classes. Convolutions start as ``init_weights`` sets them, not with PyTorch's
    defaults as the authors': from scratch it learns faster so.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes.
        channels: channels of each stage, finest first; the last two must be equal.
        encoder_blocks: blocks of each encoder stage.
        decoder_blocks: blocks of each decoder stage, coarsest first; one stage less than the encoder.
        encoder_attention: attend between the blocks of an encoder stage.
        decoder_attention: attend between the blocks of a decoder stage.
        distinct_memory: offer each map once, and the stage's input where its channels allow, instead of the published
            memory, see :class:`~monai_ext.networks.blocks.MemoryStage`.
        key_ratio: width of the skips' keys, see :class:`~monai_ext.networks.blocks.MemoryRouting`.
        query_init: ``"zero"`` or ``"random"``, see :class:`~monai_ext.networks.blocks.IntraStageAttentionResidual`.

    Raises:
        ValueError: for another ``spatial_dims``, for lengths or channels that do not fit each other, and in
            ``forward`` for an input of another number of channels or with a side below ``2 ** (len(channels) - 1)``.

    Shape:
        - input: ``(B, in_channels, *spatial)``, any size from 16 on (for five stages)
        - output: ``(B, out_channels, *spatial)``, logits

    Examples::

        >>> net = XAttnResBlockUNet(spatial_dims=2, in_channels=1, out_channels=9).eval()
        >>> net(torch.rand(1, 1, 200, 216)).shape
        torch.Size([1, 9, 200, 216])

    .. [1] Liu et al., "XAttnRes", arXiv:2604.03297; this revision is in the authors' repository, xq141839/XAttnRes.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 9,
        channels: Sequence[int] = (18, 36, 72, 144, 144),
        encoder_blocks: Sequence[int] = (2, 2, 3, 3, 3),
        decoder_blocks: Sequence[int] = (2, 2, 2, 2),
        encoder_attention: bool = False,
        decoder_attention: bool = True,
        distinct_memory: bool = False,
        key_ratio: float = 0.5,
        query_init: str = "zero",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_spatial_dims(name, spatial_dims)
        if len(channels) < 2 or channels[-1] != channels[-2]:
            raise ValueError(
                f"monai_ext: {name}: channels needs two or more stages, the last two equal; got {tuple(channels)}."
            )
        if len(encoder_blocks) != len(channels) or len(decoder_blocks) != len(channels) - 1:
            raise ValueError(
                f"monai_ext: {name}: {len(channels)} stages of channels need {len(channels)} encoder_blocks and "
                f"{len(channels) - 1} decoder_blocks; got {tuple(encoder_blocks)} and {tuple(decoder_blocks)}."
            )
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        self.minimum_size = 2 ** (len(channels) - 1)
        self.interpolation = "bilinear" if spatial_dims == 2 else "trilinear"
        self.pool = Pool["MAX", spatial_dims](2)
        self.encoder = nn.ModuleList(
            MemoryStage(spatial_dims, width_in, width, blocks, encoder_attention, distinct_memory, query_init)
            for width_in, width, blocks in zip([in_channels, *channels], channels, encoder_blocks)
        )
        self.skips = nn.ModuleList()
        self.fusions = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for stage, blocks in zip(range(len(channels) - 2, -1, -1), decoder_blocks):
            width = channels[max(stage - 1, 0)]
            self.skips.append(MemoryRouting(spatial_dims, channels[stage], key_ratio))
            self.fusions.append(
                Convolution(
                    spatial_dims, 2 * channels[stage], width, kernel_size=1, bias=False, act="relu", norm="batch"
                )
            )
            self.decoder.append(
                MemoryStage(spatial_dims, width, width, blocks, decoder_attention, distinct_memory, query_init)
            )
        self.head = Conv["CONV", spatial_dims](channels[0], out_channels, 1)
        self.apply(init_weights)
        for module in self.modules():
            if isinstance(module, IntraStageAttentionResidual):
                module.reset_query()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, self.minimum_size)
        memories: list[list[torch.Tensor]] = []
        for i, stage in enumerate(self.encoder):
            memories.append(stage(x if i == 0 else self.pool(x)))
            x = memories[-1][-1]
        for i, (route, fuse, stage) in enumerate(zip(self.skips, self.fusions, self.decoder)):
            memory = memories[len(memories) - 2 - i]
            x = self.upsample(x, memory[0])
            x = stage(fuse(torch.cat([x, route(memory, x)], dim=1)))[-1]
        return self.head(x)

    def upsample(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Double ``x``, then pad it with zeros to the size of ``skip`` where the pooling had dropped a last row."""
        x = F.interpolate(x, scale_factor=2.0, mode=self.interpolation, align_corners=True)
        padding: list[int] = []
        for axis in range(x.dim() - 1, 1, -1):
            missing = skip.shape[axis] - x.shape[axis]
            padding.append(missing // 2)
            padding.append(missing - missing // 2)
        return F.pad(x, padding) if max(padding) > 0 else x

    # names in the authors' checkpoints -> ours; two convolutions and their norms are 0, 1, 3 and 4 of one sequence
    key_rules: KeyRules = [
        (r"^enc_stages\.", "encoder."),
        (r"^dec_stages\.", "decoder."),
        *[(rf"\.conv1\.{3 * i}\.", f".conv_{i}.conv.") for i in (0, 1)],
        *[(rf"\.conv1\.{3 * i + 1}\.", f".conv_{i}.adn.N.") for i in (0, 1)],
        (r"\.attn_res\.(\d+)\.query_generator\.", r".attention.\1.query."),
        (r"\.attn_res\.", ".attention."),
        (r"^kv_skips\.(\d+)\.phi_kv\.", r"skips.\1.key_value."),
        (r"^kv_skips\.(\d+)\.phi_q\.", r"skips.\1.query."),
        (r"^kv_skips\.(\d+)\.norm_k\.", r"skips.\1.norm."),
        (r"^fusions\.(\d+)\.0\.", r"fusions.\1.conv."),
        (r"^fusions\.(\d+)\.1\.", r"fusions.\1.adn.N."),
        (r"^out_conv\.", "head."),
    ]
