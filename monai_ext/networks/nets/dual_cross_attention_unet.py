# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn as nn

from monai_ext.networks.blocks.dual_cross_attention import DualCrossAttention
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, pad_to_multiple
from monai_ext.networks.weights import KeyRules

__all__ = ["ASPP_KEY_RULES", "Attend", "DualCrossAttentionUNet"]

# of the atrous pyramids in two of the networks
ASPP_KEY_RULES: KeyRules = [
    *[(rf"^(pyramid\d?|bridge)\.block{i + 1}\.", rf"\1.branches.{i}.") for i in range(5)],
    (r"^(pyramid\d?|bridge)\.(.*)\.norm\.", r"\1.\2.adn.N."),
]

Attend = Callable[[Sequence[int]], "DualCrossAttention | None"]


class DualCrossAttentionUNet(TwoPaths):
    """What the U-Nets with Dual Cross-Attention in their skips [1]_ share; the base of six, not a network of its own.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes.
        img_size: size of the images in training, one number or one per axis. It bounds the number of tokens, see
            ``DualCrossAttention``: with patches of 8 it matters above 1024 pixels in 2D, above 128 voxels in 3D.
        attention: False gives the published baseline without attention.
        features: channels of each level; one more level makes inputs be padded to a multiple of twice the size.
        patch_size: side of a token in pixels; None for the published one, 8 (``ResUNetPlusPlusDCA``: 4).
        num_blocks: repetitions of channel and spatial attention.
        spatial_heads: heads of the spatial attention.
        channel_heads: heads of the channel attention.
        own: arguments that only one of the networks has, see there.

    Raises:
        ValueError: if an argument or the input's shape does not fit.

    Shape:
        - input: ``(B, in_channels, *spatial)``, sides of at least ``2 ** (len(features) - 1)``, twice that to train on
          one image a batch
        - output: ``(B, out_channels, *spatial)``, logits

    .. [1] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    published_patch_size = 8

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 9,
        img_size: Sequence[int] | int = 224,
        attention: bool = True,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        *,
        patch_size: int | None = None,
        num_blocks: int = 1,
        spatial_heads: int = 4,
        channel_heads: int = 1,
        **own: Any,
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.stride = 2 ** (len(features) - 1)
        self.dca: DualCrossAttention | None = None
        self.up: Any  # a module a level, where ``decode`` is that of this class
        self.decoder: nn.ModuleList
        self.head: nn.Module
        attend = partial(
            DualCrossAttention,
            spatial_dims,
            img_size=img_size,
            patch_size=self.published_patch_size if patch_size is None else patch_size,
            num_blocks=num_blocks,
            spatial_heads=spatial_heads,
            channel_heads=channel_heads,
        )
        self.build(list(features), out_channels, attend if attention else lambda widths: None, **own)

    def build(self, features: list[int], out_channels: int, attend: Attend) -> None:
        """Make the layers, ``dca`` and ``head`` among them; ``attend(widths)`` is an attention, or None without."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input_size(x, self.in_channels, self.spatial_dims, minimum=self.stride)
        size = list(x.shape[2:])
        x, skips = self.encode(pad_to_multiple(x, self.stride))
        if self.dca is not None:
            skips = self.dca(skips)
        return crop_to(self.head(self.decode(x, skips[::-1])), size)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the deepest map, and the skips that the attention reads, finest first."""
        raise NotImplementedError

    def decode(self, x: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Return the finest map of the decoder; the skips come coarsest first."""
        for i, (up, decode) in enumerate(zip(self.up, self.decoder)):
            x = decode(torch.cat([up(x), skips[i]], dim=1))
        return x

    # names in the authors' checkpoints -> ours. Some of their layers wrap their convolution once more than others of
    # the same kind, hence the optional "conv."
    key_rules: KeyRules = [
        (r"^DCA\.", "dca."),
        (r"\.proj\.depthwise\.", "."),
        (r"\.avg_map\.", ".project."),
        *[
            (rf"\.attention\.(\d+)\.{short}_attention\.(\d+)\.{theirs}\.", rf".{kind}.\1.attention.\2.{ours}.")
            for short, kind in (("c", "channel"), ("s", "spatial"))
            for theirs, ours in (("q_map", "query"), ("k_map", "key"), ("v_map", "value"), ("projection", "project"))
        ],
        (r"\.attention\.(\d+)\.(channel|spatial)_norm\.", r".\2.\1.norm."),
        (r"\.upconvs\.(\d+)\.(?:conv\.)+", r".conv.\1."),
        (r"\.bn_relu\.(\d+)\.0\.", r".norm.\1."),
    ]
