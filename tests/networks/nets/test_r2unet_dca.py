# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai_ext.networks.nets import R2UNetDCA
from tests.networks import dca_reference
from tests.networks.dca_base import DCANetworkTest


class TestR2UNetDCA(DCANetworkTest):
    network = R2UNetDCA
    reference = dca_reference.r2unet
    published = (9_892_489, 9_781_929)
