# SPDX-License-Identifier: Apache-2.0

from .dcaunet import DCAUNet
from .emcad import EMCADNet
from .pvt_v2 import PVTv2

__all__ = ["DCAUNet", "EMCADNet", "PVTv2"]
