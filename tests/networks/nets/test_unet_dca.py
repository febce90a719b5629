# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_ext.networks.nets import UNetDCA
from tests.networks import dca_reference
from tests.networks.dca_base import SMALL, DCANetworkTest
from tests.networks.parity import check_parity


class TestUNetDCA(DCANetworkTest):
    network = UNetDCA
    reference = dca_reference.unet
    published = (8_747_593, 8_637_033)
    cases = [
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL},
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 1, "features": SMALL, "attention": False},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "img_size": 32, "features": SMALL},
    ]
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"img_size": (224, 224, 224)}, "img_size must be one positive number or 2"),
        ({"features": (6, 16, 32)}, "multiple of spatial_heads=4"),
        ({"patch_size": 0}, "patch_size, .* must be positive"),
    ]

    @pytest.mark.slow
    def test_parity(self):
        check_parity(UNetDCA, "dca_unet_dca_224", plain_gradients=False)
