# SPDX-License-Identifier: Apache-2.0
"""What the six networks with Dual Cross-Attention have in common, on top of the suite for every network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import SqueezeExcite
from monai_ext.networks.weights import load_reference
from tests.networks.base import BaseNetworkTest, count_parameters, losses_of_steps
from tests.networks.dca_reference import Reference

SMALL = (8, 16, 32)  # two skips: every layer is there, and scripting, export and capture stay quick


class DCANetworkTest(BaseNetworkTest):
    reference: Callable[[Reference, torch.Tensor], torch.Tensor]
    published: tuple[int, int]  # parameters with and without attention
    image_channels = 1
    sizes = {2: [(48, 32), (50, 37)], 3: [(16, 24, 16), (17, 18, 9)]}
    too_small = {2: (32, 3), 3: (32, 3, 32)}
    exported_sizes = {2: (48, 32), 3: (16, 24, 16)}
    inert = (r"dca\w*\.spatial\.\d\.attention\.\d\.key\.bias",)  # a shift of all scores of a softmax
    cases = [
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL},
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 1, "features": SMALL, "attention": False},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": SMALL, "attention": False},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": SMALL, "img_size": 32},
    ]
    attention_first = [cases[0], cases[1], cases[3]]  # the whole suite with attention, in 3D too: the slowest choice
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"img_size": (224, 224, 224)}, "img_size must be one positive number or 2"),
        ({"features": (6, 16, 32)}, "multiple of spatial_heads=4"),
        ({"patch_size": 0}, "patch_size, .* must be positive"),
    ]

    def build(self, case: dict) -> torch.nn.Module:
        network = super().build(case)
        for module in network.modules():
            if isinstance(module, SqueezeExcite):
                # small networks have two hidden units here: with opposite weights, one of them is not cut off by ReLU
                first = module.mlp[0].weight.data
                first[1] = -first[0]
        return network

    def test_published_parameter_counts(self):
        assert count_parameters(self.network(attention=True)) == self.published[0]
        assert count_parameters(self.network(attention=False)) == self.published[1]

    @pytest.mark.parametrize("attention", [True, False])
    def test_computes_what_the_published_code_does(self, attention):
        reference = Reference(attention)
        x = torch.randn(2, self.image_channels, 48, 48, generator=torch.Generator().manual_seed(3)).double()
        with torch.no_grad():
            expected = type(self).reference(reference, x)
        for fast in (True, False) if attention else (True,):
            network = use_plain_path(self.network(attention=attention), not fast)
            load_reference(network, reference.state_dict)
            with torch.no_grad():
                got = network.double().eval()(x)
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-11 * expected.abs().max().item())

    def test_loss_falls(self, first_case):
        """A rod through a volume, or a disc in a picture, is learnt within a few steps."""
        dims = first_case["spatial_dims"]
        axis = torch.linspace(-1, 1, 32)
        disc = (axis[:, None] ** 2 + axis[None, :] ** 2 < 0.4).long()
        label = disc if dims == 2 else disc[:, :, None].expand(-1, -1, 8)
        label = label[None].repeat(2, *[1] * dims)
        noise = torch.randn(label.shape, generator=torch.Generator().manual_seed(4))
        image = (label + 0.3 * noise)[:, None].expand(-1, self.image_channels, *[-1] * dims)
        network = self.build({**first_case, "in_channels": self.image_channels, "out_channels": 2})
        losses = losses_of_steps(network, image, label, torch.optim.Adam(network.parameters(), lr=0.01), 8)
        assert losses[-1] < 0.7 * losses[0]
