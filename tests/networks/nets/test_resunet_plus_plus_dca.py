# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn

from monai_ext.networks.nets import ResUNetPlusPlusDCA
from tests.networks import dca_reference
from tests.networks.dca_base import DCANetworkTest

SMALL = (16, 32, 32, 16, 16)


class TestResUNetPlusPlusDCA(DCANetworkTest):
    network = ResUNetPlusPlusDCA
    reference = dca_reference.resunet_plus_plus
    published = (13_120_780, 13_090_092)
    cases = [
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL},
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 1, "features": SMALL, "attention": False},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "img_size": 32, "features": SMALL},
    ]
    too_small = {2: (32, 7), 3: (32, 7, 32)}
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"img_size": (224, 224, 224)}, "img_size must be one positive number or 2"),
        ({"features": (8, 18, 16, 16, 32)}, "multiple of spatial_heads=4"),
        ({"patch_size": 0}, "patch_size, .* must be positive"),
    ]

    def build(self, case: dict) -> nn.Module:
        # before its norms have seen any input the logits are of order 1e5, where float32 has no 1e-4 left to compare
        net = super().build(case)
        with torch.no_grad():
            for _ in range(20):
                net.train()(self.input(case, self.sizes[case["spatial_dims"]][0], batch=2))
        return net
