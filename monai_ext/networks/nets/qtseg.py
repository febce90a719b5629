# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks.blocks.multi_level_feature_distribution import MultiLevelFeatureDistribution
from monai_ext.networks.blocks.query_token_stage import QueryTokenStage
from monai_ext.networks.nets.fpn_encoder import FPNEncoder
from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_input_size, check_spatial_dims, crop_to, pad_to_multiple
from monai_ext.networks.weights import KeyRules

__all__ = ["QTSeg"]


class QTSeg(TwoPaths):
    """One learned query token per class, informed by a feature pyramid; its inner products with a map are logits [1]_.

    A light encoder (:class:`~monai_ext.networks.nets.FPNEncoder`), a bridge that rebuilds each level from all
    (:class:`~monai_ext.networks.blocks.MultiLevelFeatureDistribution`), and a decoder that takes the levels coarsest
    first (:class:`~monai_ext.networks.blocks.QueryTokenStage`): a level's map, plus the enlarged map of the level
    before, and the tokens go through dual-mix attention. At half of the input's resolution the logit of a class is the
    inner product of its token with the map; linear interpolation gives the input's size. 9,214,850 parameters with 3
    input channels and 2 classes.

    Train as the authors do with ``encoder`` frozen (``net.encoder.requires_grad_(False)``) for the first epochs where
    it starts from ``pretrained``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes; each has its token.
        base_width: channels of the first convolution; the levels have 4, 8 and 16 times as many.
        depths: layers of dual-mix attention on each level, finest first.
        num_heads: heads of every attention; must divide twice ``base_width``.
        mlp_dim: hidden width of the tokens' MLPs.
        bridge: ``False`` hands the encoder's levels to the decoder as they are.
        spatial_gate: see :class:`~monai_ext.networks.blocks.DualMixAttention`.
        channel_gate: see :class:`~monai_ext.networks.blocks.DualMixAttention`.
        pretrained: path of the authors' ``fpn-nano.pth`` for the encoder, see
            :class:`~monai_ext.networks.nets.FPNEncoder`.

    Attributes:
        encoder: the encoder, to be frozen or given another learning rate.

    Raises:
        ValueError: for another ``spatial_dims``, for widths, heads and depths that do not fit each other or weights
            that do not fit the encoder, and in ``forward`` for an input of another number of channels or with a side
            below 32.

    Shape:
        - input: ``(B, in_channels, *spatial)``, any size from 32 on; padded to a multiple of 32 inside
        - output: ``(B, out_channels, *spatial)``, logits

    Examples::

        >>> net = QTSeg(spatial_dims=2, in_channels=3, out_channels=2).eval()
        >>> net(torch.rand(1, 3, 100, 120)).shape
        torch.Size([1, 2, 100, 120])

    .. [1] Tran et al., "QTSeg", arXiv:2412.17241.
    """

    bfloat16_inference = True

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 2,
        base_width: int = 16,
        depths: Sequence[int] = (1, 2, 3),
        num_heads: int = 8,
        mlp_dim: int = 2048,
        bridge: bool = True,
        spatial_gate: bool = True,
        channel_gate: bool = True,
        pretrained: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if len(depths) != 3 or min(depths) < 1:
            raise ValueError(
                f"monai_ext: {type(self).__name__}: depths must be three numbers from 1 on, got {tuple(depths)}."
            )
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.interpolation = "bilinear" if spatial_dims == 2 else "trilinear"
        self.encoder = FPNEncoder(spatial_dims, in_channels, base_width, pretrained)
        widths = self.encoder.widths
        self.bridge = MultiLevelFeatureDistribution(spatial_dims, widths) if bridge else None
        self.tokens = nn.Parameter(torch.randn(out_channels, widths[-1]))
        self.stages = nn.ModuleList()  # coarsest first
        for level in (2, 1, 0):
            width = widths[max(level - 1, 0)]
            self.stages.append(
                QueryTokenStage(
                    spatial_dims,
                    widths[level],
                    num_tokens=out_channels,
                    token_channels=width,
                    map_channels=[width] if level > 0 else [width // 2, width],
                    depth=depths[level],
                    num_heads=num_heads,
                    mlp_dim=mlp_dim,
                    spatial_gate=spatial_gate,
                    channel_gate=channel_gate,
                )
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens, features = self.forward_features(x)
        size = features.shape[2:]
        logits = torch.bmm(tokens, features.flatten(2)).unflatten(2, size)
        logits = F.interpolate(logits, scale_factor=2.0, mode=self.interpolation, align_corners=False)
        return crop_to(logits, list(x.shape[2:]))

    def forward_features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the logits are inner products of.

        Returns:
            the tokens, ``(B, out_channels, C)``, and the map, ``(B, C, *spatial / 2)`` of the padded input, with
            ``C = 4 * base_width``.
        """
        check_input_size(x, self.in_channels, self.spatial_dims, 32)
        levels = self.encoder(pad_to_multiple(x, 32))
        if self.bridge is not None:
            levels = self.bridge(levels)
        tokens = self.tokens.expand(x.shape[0], -1, -1)
        features = levels[2]
        for i, stage in enumerate(self.stages):
            tokens, features = stage(tokens, features if i == 0 else levels[2 - i] + features)
        return tokens, features

    # names in the authors' checkpoints -> ours
    key_rules: KeyRules = [
        *FPNEncoder.key_rules,
        (r"^image_encoder\.", "encoder."),
        (r"^bridge\.neck_(\d)_(\d)\.", r"bridge.levels.\1.shares.\2."),
        (r"\.conv_transpose\.", ".conv."),
        (r"^mask_decoder\.mask_tokens\.weight$", "tokens"),
        *[(rf"^mask_decoder\.([A-Z]+)_s{level}\.", rf"stages.{2 - level}.\1.") for level in (0, 1, 2)],
        (r"\.DMAB\.layers\.", ".layers."),
        (r"\.DMAB\.final_attn_token_to_image\.", ".final_attention."),
        (r"\.DMAB\.norm_final_attn\.", ".final_norm."),
        *[(rf"\.MLP\.(\d+)\.layers\.{i}\.", rf".token_mlps.\1.{2 * i}.") for i in (0, 1, 2)],
        (r"\.PE\.positional_encoding_gaussian_matrix$", ".position.matrix"),
        (r"\.SUB\.", ".upsample."),
        (r"\.dm_attention\.spatial_attention\.cv1\.", ".spatial_gate.conv."),
        (r"\.dm_attention\.channel_attention\.", ".channel_gate."),
        (r"\.dm_attention\.(spatial|channel)_token_mix_attention\.", r".attend_\1."),
        (r"\.dm_attention\.token_layernorm\.", ".mixed_norm."),
        (r"\.token_layernorm\.", ".mlp_norm."),
        (r"\.token_mlp\.lin", ".mlp.linear"),
        (r"\.feature_mix\.", ".attend_tokens."),
        *[(rf"\.{name[0]}_proj\.", f".{name}.") for name in ("query", "key", "value")],
        (r"\.out_proj\.", ".out."),
    ]
