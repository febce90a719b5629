# SPDX-License-Identifier: Apache-2.0

from .aspp import ASPP
from .channel_affine import ChannelAffine
from .channel_cross_attention import ChannelCrossAttention
from .channel_layer_norm import ChannelLayerNorm
from .channel_spatial_feature_fusion import ChannelSpatialFeatureFusion
from .concatenation_fusion import ConcatenationFusion
from .dca_block import DCABlock
from .depthwise_mlp import DepthwiseMLP
from .differential_cross_attention import DifferentialCrossAttention, scheduled_lambda
from .dual_cross_attention import DualCrossAttention
from .eucb import EUCB
from .expand_head import ExpandHead
from .interpolate_project import InterpolateProject
from .intra_stage_attention_residual import IntraStageAttentionResidual
from .lgag import LGAG
from .memory_routing import MemoryRouting
from .memory_stage import MemoryStage
from .mscam import MSCAM
from .multi_scale_conv import MultiScaleConvBlock
from .multires_block import MultiResBlock
from .pre_activation_residual import PreActivationResidual
from .pvt_block import PVTBlock
from .recurrent_residual_unit import RecurrentConvolution, RecurrentResidualUnit
from .res_path import ResPath
from .rms_norm import ChannelRMSNorm
from .skip_gate import SkipGate
from .spatial_cross_attention import SpatialCrossAttention
from .spatial_reduction_attention import SpatialReductionAttention
from .squeeze_excite import SqueezeExcite
from .squeeze_excite_unit import SqueezeExciteUnit
from .vnet_stage import VNetDownStage, VNetInputStage, VNetUpStage
from .window_cross_attention import WindowCrossAttention

__all__ = [
    "ASPP",
    "EUCB",
    "LGAG",
    "MSCAM",
    "ChannelAffine",
    "ChannelCrossAttention",
    "ChannelLayerNorm",
    "ChannelRMSNorm",
    "ChannelSpatialFeatureFusion",
    "ConcatenationFusion",
    "DCABlock",
    "DepthwiseMLP",
    "DifferentialCrossAttention",
    "DualCrossAttention",
    "ExpandHead",
    "InterpolateProject",
    "IntraStageAttentionResidual",
    "MemoryRouting",
    "MemoryStage",
    "MultiResBlock",
    "MultiScaleConvBlock",
    "PVTBlock",
    "PreActivationResidual",
    "RecurrentConvolution",
    "RecurrentResidualUnit",
    "ResPath",
    "SkipGate",
    "SpatialCrossAttention",
    "SpatialReductionAttention",
    "SqueezeExcite",
    "SqueezeExciteUnit",
    "VNetDownStage",
    "VNetInputStage",
    "VNetUpStage",
    "WindowCrossAttention",
    "scheduled_lambda",
]
