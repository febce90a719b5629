# SPDX-License-Identifier: Apache-2.0

from .dcaunet import DCAUNet, DCAUNetEncoder
from .doubleunet_dca import DoubleUNetDCA
from .emcad import EMCADNet
from .fpn_encoder import FPNEncoder
from .multires_unet_dca import MultiResUNetDCA
from .pvt_v2 import PVTv2
from .qtseg import QTSeg
from .r2unet_dca import R2UNetDCA
from .resunet_plus_plus_dca import ResUNetPlusPlusDCA
from .unet_dca import UNetDCA
from .vnet_dca import VNetDCA
from .xattnres_block_unet import XAttnResBlockUNet
from .xattnres_emcad import XAttnResEMCAD
from .xattnres_unet import XAttnResUNet

__all__ = [
    "DCAUNet",
    "DCAUNetEncoder",
    "DoubleUNetDCA",
    "EMCADNet",
    "FPNEncoder",
    "MultiResUNetDCA",
    "PVTv2",
    "QTSeg",
    "R2UNetDCA",
    "ResUNetPlusPlusDCA",
    "UNetDCA",
    "VNetDCA",
    "XAttnResBlockUNet",
    "XAttnResEMCAD",
    "XAttnResUNet",
]
