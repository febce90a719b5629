# SPDX-License-Identifier: Apache-2.0

from .depthwise_mlp import DepthwiseMLP
from .eucb import EUCB
from .lgag import LGAG
from .mscam import MSCAM
from .multi_scale_conv import MultiScaleConvBlock
from .pvt_block import PVTBlock
from .rms_norm import ChannelRMSNorm
from .spatial_reduction_attention import SpatialReductionAttention

__all__ = [
    "EUCB",
    "LGAG",
    "MSCAM",
    "ChannelRMSNorm",
    "DepthwiseMLP",
    "MultiScaleConvBlock",
    "PVTBlock",
    "SpatialReductionAttention",
]
