# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai_ext.networks.nets import MultiResUNetDCA
from tests.networks import dca_reference
from tests.networks.dca_base import SMALL, DCANetworkTest


class TestMultiResUNetDCA(DCANetworkTest):
    network = MultiResUNetDCA
    reference = dca_reference.multires_unet
    published = (7_354_800, 7_244_240)
    cases = [
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL},
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 1, "features": SMALL, "attention": False},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": SMALL, "attention": False},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": SMALL, "img_size": 32},
    ]
    # only the baseline reads what the last norm of a path gives
    inert = (*DCANetworkTest.inert, r"paths\.(0\.norms\.1|1\.norms\.0)\..*")
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"img_size": (224, 224, 224)}, "img_size must be one positive number or 2"),
        ({"features": (6, 16, 32)}, "multiple of spatial_heads=4"),
        ({"patch_size": 0}, "patch_size, .* must be positive"),
    ]
