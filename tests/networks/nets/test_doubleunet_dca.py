# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_ext.networks.nets import DoubleUNetDCA
from tests.networks import dca_reference
from tests.networks.dca_base import DCANetworkTest
from tests.networks.parity import check_parity

SMALL = {"vgg_features": (8, 8, 16, 16, 16), "features": (16, 16, 16, 16)}


class TestDoubleUNetDCA(DCANetworkTest):
    network = DoubleUNetDCA
    reference = dca_reference.doubleunet
    published = (30_584_780, 29_683_820)
    image_channels = 3
    too_small = {2: (32, 15)}
    cases = [
        {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, **SMALL},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "attention": False, **SMALL},
    ]
    bad_arguments = [
        ({"spatial_dims": 3}, "spatial_dims must be 2, got 3"),
        ({"in_channels": 2}, "in_channels must be one of 1, 3; got 2"),
        ({"features": (32, 64, 128)}, "vgg_features must be five numbers and features four"),
        ({"features": (8, 10, 16, 16)}, "multiple of spatial_heads=4"),
    ]

    @pytest.mark.slow
    def test_parity(self):
        check_parity(DoubleUNetDCA, "dca_doubleunet_dca_224", plain_gradients=False)

    def test_one_channel_is_three_equal_ones(self):
        grey, colour = (self.build({"in_channels": channels, **SMALL}).eval() for channels in (1, 3))
        x = torch.rand(1, 1, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)))  # memory may be laid out otherwise

    def test_first_encoder_starts_as_vgg(self):
        first = self.build({}).vgg[1][0]
        assert first.weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.01)
        assert not first.bias.any()
