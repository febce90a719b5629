# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from monai_ext.networks.nets import EMCADNet
from monai_ext.networks.weights import load_reference
from tests.networks.base import BaseNetworkTest, assert_paths_agree, count_parameters, losses_of_steps
from tests.networks.parity import check_parity

# norms remove the bias of the convolutions before them
BIAS_BEFORE_NORM = r"adapter\.0\.bias|gate\.\d\.(from_gate|from_skip|score)\.0\.bias"


def every_map(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    network.training = True  # of the network alone: its norms stay in eval mode
    return dict(zip(("p4", "p3", "p2", "p1"), network(x)))


class TestEMCADNet(BaseNetworkTest):
    network = EMCADNet
    cases = [
        {"spatial_dims": 2, "in_channels": 1, "encoder": "pvt_v2_b0", "drop_path_rate": 0.0},
        {"spatial_dims": 2, "in_channels": 3, "out_channels": 1, "encoder": "pvt_v2_b0"},
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 2, "encoder": "pvt_v2_b0"},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "encoder": "pvt_v2_b0", "drop_path_rate": 0.0},
    ]
    sizes = {2: [(64, 64), (75, 33)], 3: [(64, 32, 32), (33, 40, 32)]}
    too_small = {2: (31, 64), 3: (64, 32, 31)}
    inert = (BIAS_BEFORE_NORM,)
    train_outputs = 4
    batch_one_trains = False
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"encoder": "pvt_v2_b9"}, "'pvt_v2_b9'"),
        ({"kernel_sizes": (1, 4)}, r"kernel_sizes must be odd numbers, got \[1, 4\]"),
        ({"reductions": (8, 4, 2)}, r"4 stages, got \[8, 4, 2\]"),
    ]

    @pytest.mark.slow
    def test_parity(self):
        check_parity(EMCADNet, "emcad_pvt_v2_b2_224", every_map, plain_gradients=False)

    def test_published_size(self):
        assert count_parameters(EMCADNet(encoder="pvt_v2_b2")) == 26_772_635
        assert count_parameters(EMCADNet(encoder="pvt_v2_b0")) == 3_920_923

    def test_the_last_training_map_is_the_prediction(self):
        net = self.build(self.cases[0]).eval()
        x = self.input(self.cases[0], (64, 96))
        with torch.no_grad():
            assert torch.equal(every_map(net, x)["p1"], net.eval()(x))

    def test_one_spatial_attention_serves_all_levels(self):
        net = self.build(self.cases[0])
        assert len({id(level.spatial_attention) for level in net.mscam}) == 1

    def test_adapter_is_frozen_where_unused(self):
        assert not any(p.requires_grad for p in self.build(self.cases[1]).adapter.parameters())
        assert all(p.requires_grad for p in self.build(self.cases[0]).adapter.parameters())

    @pytest.mark.parametrize("channels", [1, 4])
    def test_adapter_stays_in_float32(self, channels):
        """All contrast goes through three maps, which a norm enlarges; rounded they cost Dice."""
        torch.manual_seed(0)
        net = EMCADNet(spatial_dims=2, in_channels=channels, encoder="pvt_v2_b0").eval()
        x = torch.rand(2, channels, 32, 64)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = net.adapt(x)
        with torch.no_grad():
            torch.testing.assert_close(found, net.adapter(x))

    def test_activation_is_a_switch(self):
        net = self.build(self.cases[0]).eval()
        relu = self.network(**self.cases[0], act="relu").eval()
        relu.load_state_dict(net.state_dict())
        with torch.no_grad():
            for level in net.mscam:  # push activations beyond 6
                level.convolution.expand[1].weight.mul_(100)
            relu.load_state_dict(net.state_dict())
            x = self.input(self.cases[0], (64, 64))
            assert not torch.allclose(net(x), relu(x))

    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_both_paths_agree(self, spatial_dims):
        case = next(c for c in self.cases if c["spatial_dims"] == spatial_dims)
        x = self.input(case, self.sizes[spatial_dims][0]).double()
        fast = self.build(case).double().eval()
        assert_paths_agree(fast, self.network(**case), x, output=(1e-9, 1e-12), gradient=(1e-7, 1e-10))

    def test_reference_weights_of_another_network_are_refused(self):
        net = self.build(self.cases[0])
        with pytest.raises(ValueError, match="missing: adapter.0.weight"):
            load_reference(net, {"backbone.norm1.weight": torch.ones(32)})

    def test_volume_constant_along_one_axis_trains(self):
        torch.manual_seed(0)
        net = self.network(spatial_dims=3, in_channels=1, out_channels=2, encoder="pvt_v2_b0", drop_path_rate=0.0)
        x = torch.rand(2, 1, 1, 32, 32).expand(2, 1, 64, 32, 32)
        target = (x[:, 0] > 0.5).long()
        losses = losses_of_steps(net, x, target, torch.optim.AdamW(net.parameters(), lr=3e-4), 10)
        assert losses[-1] < losses[0]
