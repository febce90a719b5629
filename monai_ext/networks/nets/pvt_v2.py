# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv
from monai.utils import ensure_tuple_rep

from monai_ext.networks.blocks.channel_layer_norm import ChannelLayerNorm
from monai_ext.networks.blocks.pvt_block import PVTBlock
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import WEIGHTS_FOLLOW, check_input_size, check_option, check_spatial_dims
from monai_ext.networks.weights import KeyRules, load_reference, read_weights

__all__ = ["PVT_KEY_RULES", "PVTv2"]

_WIDTHS = (64, 128, 320, 512)
_VARIANTS: dict[str, dict[str, tuple[int, ...]]] = {
    "pvt_v2_b0": {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2), "mlp_ratios": (8, 8, 4, 4)},
    "pvt_v2_b1": {"widths": _WIDTHS, "depths": (2, 2, 2, 2), "mlp_ratios": (8, 8, 4, 4)},
    "pvt_v2_b2": {"widths": _WIDTHS, "depths": (3, 4, 6, 3), "mlp_ratios": (8, 8, 4, 4)},
    "pvt_v2_b3": {"widths": _WIDTHS, "depths": (3, 4, 18, 3), "mlp_ratios": (8, 8, 4, 4)},
    "pvt_v2_b4": {"widths": _WIDTHS, "depths": (3, 8, 27, 3), "mlp_ratios": (8, 8, 4, 4)},
    "pvt_v2_b5": {"widths": _WIDTHS, "depths": (3, 6, 40, 3), "mlp_ratios": (4, 4, 4, 4)},
}
_HEADS = (1, 2, 5, 8)
_STRIDES = (4, 2, 2, 2)

# names in the release's checkpoints, or in those of a network with this backbone, -> ours: stages count from 1 there
PVT_KEY_RULES: KeyRules = [
    *[(rf"^(backbone\.)?(patch_embed|block|norm){s}\.", rf"\g<1>\g<2>.{s - 1}.") for s in (1, 2, 3, 4)],
    (r"patch_embed\.(\d)\.proj\.", r"embed.\1.0."),
    (r"patch_embed\.(\d)\.norm\.", r"embed.\1.1."),
    (r"block\.", "blocks."),
    (r"attn\.q\.", "attention.query."),
    (r"attn\.kv\.", "attention.key_value."),
    (r"attn\.proj\.", "attention.project."),
    (r"attn\.sr\.", "attention.reduce."),
    (r"attn\.norm\.", "attention.norm."),
    (r"mlp\.dwconv\.dwconv\.", "mlp.depthwise."),
]


class PVTv2(TwoPaths):
    """Pyramid vision transformer v2 [1]_, as an encoder: one map at each of 1/4, 1/8, 1/16 and 1/32 of the input.

    No position embedding, so any size will do. Each stage cuts its input into overlapping patches, applies transformer
    blocks whose keys and values come from a coarser map, and normalises the result.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        variant: ``"pvt_v2_b0"`` to ``"pvt_v2_b5"``; in 2D with 3 channels they have 3.4, 13.5, 24.8, 44.7, 62.0 and
            81.4 million parameters.
        reductions: for each stage, the side of the patches that keys and values come from, one number or one per axis.
            The number of attention scores of a stage is its positions squared over the patch's volume: raise it where a
            volume is too large for memory, along the axes with most positions.
        drop_path_rate: probability that a sample skips the last residual branch while training; it rises linearly from
            0 at the first block.
        pretrained: path of a ``pvt_v2_b*.pth`` of the authors' release, trained on ImageNet; 2D and 3 channels only.
            Its classification head is left out; all else must fit.

    Raises:
        ValueError: if an argument is not one of the above, the weights do not fit, or the input has too few channels or
            a side below 32 (with the default ``reductions``).

    Shape:
        - input: ``(B, in_channels, *spatial)``, each side at least 32
        - output: list of ``(B, widths[s], *sides)`` with sides ``ceil(side / 4)``, then halved (rounded up) per stage

    Examples::

        >>> net = PVTv2(variant="pvt_v2_b2").eval()
        >>> [list(y.shape) for y in net(torch.rand(1, 3, 224, 224))]
        [[1, 64, 56, 56], [1, 128, 28, 28], [1, 320, 14, 14], [1, 512, 7, 7]]

    .. [1] Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", arXiv:2106.13797.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        variant: str = "pvt_v2_b2",
        reductions: Sequence[int | Sequence[int]] = (8, 4, 2, 1),
        drop_path_rate: float = 0.1,
        pretrained: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        check_spatial_dims("PVTv2", spatial_dims)
        check_option("PVTv2", "variant", variant, list(_VARIANTS))
        if len(reductions) != len(_STRIDES):
            raise ValueError(
                f"monai_ext: PVTv2: reductions must name one value for each of 4 stages, got {list(reductions)}."
            )
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.widths = _VARIANTS[variant]["widths"]
        depths, mlp_ratios = _VARIANTS[variant]["depths"], _VARIANTS[variant]["mlp_ratios"]
        drop_path = torch.linspace(0, drop_path_rate, sum(depths)).tolist()

        self.embed = nn.ModuleList()
        self.blocks = nn.ModuleList()
        self.norm = nn.ModuleList()
        self.minimum = 1
        channels = in_channels
        for stage, (width, depth, stride) in enumerate(zip(self.widths, depths, _STRIDES)):
            kernel_size = 2 * stride - 1
            self.embed.append(
                nn.Sequential(
                    Conv["CONV", spatial_dims](channels, width, kernel_size, stride=stride, padding=kernel_size // 2),
                    ChannelLayerNorm(width, eps=1e-5),
                )
            )
            self.blocks.append(
                nn.Sequential(
                    *(
                        PVTBlock(
                            spatial_dims,
                            width,
                            num_heads=_HEADS[stage],
                            mlp_ratio=mlp_ratios[stage],
                            reduction=reductions[stage],
                            drop_path=drop_path[sum(depths[:stage]) + i],
                        )
                        for i in range(depth)
                    )
                )
            )
            self.norm.append(ChannelLayerNorm(width, eps=1e-6))
            patch = max(ensure_tuple_rep(reductions[stage], spatial_dims))
            self.minimum = max(self.minimum, patch * math.prod(_STRIDES[: stage + 1]))
            channels = width

        self.apply(_init_weights)
        if pretrained is not None:
            load_reference(self, read_weights(pretrained), os.fspath(pretrained))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        check_input_size(x, self.in_channels, self.spatial_dims, self.minimum)
        maps: list[torch.Tensor] = []
        for embed, blocks, norm in zip(self.embed, self.blocks, self.norm):
            x = norm(blocks(embed(x)))
            maps.append(x)
        return maps

    # the release's classifier is not part of an encoder
    key_rules: KeyRules = [(r"^head\.", None), *PVT_KEY_RULES]


def _init_weights(module: nn.Module) -> None:
    """Initialise as the authors do; unlike this project's ``init_weights`` no kernel counts its inputs."""
    if WEIGHTS_FOLLOW.get():
        return
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, (nn.Conv2d, nn.Conv3d)):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
