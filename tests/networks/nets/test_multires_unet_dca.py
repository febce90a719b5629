# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai_ext.networks.nets import MultiResUNetDCA
from tests.networks import dca_reference
from tests.networks.dca_base import DCANetworkTest


class TestMultiResUNetDCA(DCANetworkTest):
    network = MultiResUNetDCA
    reference = dca_reference.multires_unet
    published = (7_354_800, 7_244_240)
    # only the baseline reads what the last norm of a path gives
    inert = (*DCANetworkTest.inert, r"paths\.(0\.norms\.1|1\.norms\.0)\..*")
