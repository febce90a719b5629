# SPDX-License-Identifier: Apache-2.0

from .channel_layer_norm import ChannelLayerNorm
from .channel_spatial_feature_fusion import ChannelSpatialFeatureFusion
from .concatenation_fusion import ConcatenationFusion
from .dca_block import DCABlock
from .depthwise_mlp import DepthwiseMLP
from .differential_cross_attention import DifferentialCrossAttention, scheduled_lambda
from .eucb import EUCB
from .expand_head import ExpandHead
from .interpolate_project import InterpolateProject
from .lgag import LGAG
from .mscam import MSCAM
from .multi_scale_conv import MultiScaleConvBlock
from .pvt_block import PVTBlock
from .rms_norm import ChannelRMSNorm
from .spatial_reduction_attention import SpatialReductionAttention
from .window_cross_attention import WindowCrossAttention

__all__ = [
    "EUCB",
    "LGAG",
    "MSCAM",
    "ChannelLayerNorm",
    "ChannelRMSNorm",
    "ChannelSpatialFeatureFusion",
    "ConcatenationFusion",
    "DCABlock",
    "DepthwiseMLP",
    "DifferentialCrossAttention",
    "ExpandHead",
    "InterpolateProject",
    "MultiScaleConvBlock",
    "PVTBlock",
    "SpatialReductionAttention",
    "WindowCrossAttention",
    "scheduled_lambda",
]
