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
    cases = [{**case, "features": SMALL} for case in DCANetworkTest.attention_first]
    too_small = {2: (32, 7), 3: (32, 7, 32)}
    bad_arguments = [
        *(bad for bad in DCANetworkTest.bad_arguments if "features" not in bad[0]),
        ({"features": (8, 18, 16, 16, 32)}, "multiple of spatial_heads=4"),
    ]

    def build(self, case: dict) -> nn.Module:
        # before its norms have seen any input the logits are of order 1e5, where float32 has no 1e-4 left to compare
        net = super().build(case)
        with torch.no_grad():
            for _ in range(20):
                net.train()(self.input(case, self.sizes[case["spatial_dims"]][0], batch=2))
        return net
