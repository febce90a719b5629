# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

from .aspp import ASPP
from .c2f import C2f
from .channel_affine import ChannelAffine
from .channel_cross_attention import ChannelCrossAttention
from .channel_gram_attention import ChannelGramAttention
from .channel_layer_norm import ChannelLayerNorm
from .channel_spatial_feature_fusion import ChannelSpatialFeatureFusion
from .concatenation_fusion import ConcatenationFusion
from .conv_norm_silu import ConvNormSiLU
from .cross_stage_attention_residual import CrossStageAttentionResidual
from .dca_block import DCABlock
from .depthwise_mlp import DepthwiseMLP
from .differential_cross_attention import DifferentialCrossAttention, scheduled_lambda
from .dual_cross_attention import DualCrossAttention
from .dual_mix_attention import DualMixAttention
from .eucb import EUCB
from .expand_head import ExpandHead
from .fourier_position_map import FourierPositionMap
from .interpolate_project import InterpolateProject
from .intra_stage_attention_residual import IntraStageAttentionResidual
from .lgag import LGAG
from .memory_routing import MemoryRouting
from .memory_stage import MemoryStage
from .mscam import MSCAM
from .multi_level_feature_distribution import MultiLevelFeatureDistribution
from .multi_scale_conv import MultiScaleConvBlock
from .multires_block import MultiResBlock
from .pre_activation_residual import PreActivationResidual
from .pvt_block import PVTBlock
from .query_token_stage import QueryTokenStage
from .recurrent_residual_unit import RecurrentConvolution, RecurrentResidualUnit
from .res_path import ResPath
from .rms_norm import ChannelRMSNorm
from .skip_gate import SkipGate
from .spatial_cross_attention import SpatialCrossAttention
from .spatial_reduction_attention import SpatialReductionAttention
from .sppf import SPPF
from .squeeze_excite import SqueezeExcite
from .squeeze_excite_unit import SqueezeExciteUnit
from .token_attention import TokenAttention
from .vnet_stage import VNetDownStage, VNetInputStage, VNetUpStage
from .window_cross_attention import WindowCrossAttention

__all__ = [
    "ASPP",
    "EUCB",
    "LGAG",
    "MSCAM",
    "SPPF",
    "C2f",
    "ChannelAffine",
    "ChannelCrossAttention",
    "ChannelGramAttention",
    "ChannelLayerNorm",
    "ChannelRMSNorm",
    "ChannelSpatialFeatureFusion",
    "ConcatenationFusion",
    "ConvNormSiLU",
    "CrossStageAttentionResidual",
    "DCABlock",
    "DepthwiseMLP",
    "DifferentialCrossAttention",
    "DualCrossAttention",
    "DualMixAttention",
    "ExpandHead",
    "FourierPositionMap",
    "InterpolateProject",
    "IntraStageAttentionResidual",
    "MemoryRouting",
    "MemoryStage",
    "MultiLevelFeatureDistribution",
    "MultiResBlock",
    "MultiScaleConvBlock",
    "PVTBlock",
    "PreActivationResidual",
    "QueryTokenStage",
    "RecurrentConvolution",
    "RecurrentResidualUnit",
    "ResPath",
    "SkipGate",
    "SpatialCrossAttention",
    "SpatialReductionAttention",
    "SqueezeExcite",
    "SqueezeExciteUnit",
    "TokenAttention",
    "VNetDownStage",
    "VNetInputStage",
    "VNetUpStage",
    "WindowCrossAttention",
    "scheduled_lambda",
]


def __getattr__(name: str) -> Any:
    """The name by which calls and configs knew the encoder that is one of the ``nets`` now."""
    if name == "FPNEncoder":
        from monai_ext.networks.nets import FPNEncoder

        return FPNEncoder
    raise AttributeError(f"monai_ext: module {__name__!r} has no attribute {name!r}")
