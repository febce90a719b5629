# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from monai_ext.networks.nets import EMCADNet, XAttnResEMCAD
from tests.networks.base import BaseNetworkTest, assert_paths_agree, count_parameters
from tests.networks.nets.test_emcad import BIAS_BEFORE_NORM

MODES = ("skip", "replace", "baseline", "none")
B0 = {"in_channels": 1, "encoder": "pvt_v2_b0", "drop_path_rate": 0.0}


class TestXAttnResEMCAD(BaseNetworkTest):
    network = XAttnResEMCAD
    cases = [
        {"spatial_dims": 2, **B0},
        {"spatial_dims": 2, **B0, "mode": "replace", "deepest_read": True},
        {"spatial_dims": 3, **B0, "out_channels": 3},
    ]
    sizes = {2: [(64, 64), (33, 40)], 3: [(64, 32, 32)]}
    too_small = {2: (31, 64), 3: (64, 32, 31)}
    # while queries are zero, the norm's scale has no say
    inert = (BIAS_BEFORE_NORM, r"reads\.\d\.norm\.scale")
    train_outputs = 4
    batch_one_trains = False
    bad_arguments = [
        ({"mode": "both"}, "mode must be one of 'skip', 'replace', 'baseline', 'none'; got 'both'"),
        ({"mode": "baseline", "deepest_read": True}, "deepest_read needs reads"),
        ({"spatial_dims": 4}, "XAttnResEMCAD: spatial_dims must be 2 or 3, got 4"),
    ]

    def live(self, **arguments) -> nn.Module:
        """A network whose queries and norms are no longer at their initial values."""
        net = self.build({"spatial_dims": 2, **B0, **arguments}).double().eval()
        for name, parameter in net.named_parameters():
            if "read" in name and name.endswith(("query", "norm.scale")):
                nn.init.normal_(parameter)
        return net

    def test_size(self):
        baseline = count_parameters(XAttnResEMCAD(mode="baseline"))
        assert baseline == 26_772_635
        assert count_parameters(XAttnResEMCAD()) - baseline == 857_088
        assert count_parameters(XAttnResEMCAD(deepest_read=True)) - baseline == 1_382_400

    def test_mode_changes_no_other_parameter(self):
        shapes = {}
        for mode in MODES:
            state = XAttnResEMCAD(**B0, mode=mode).state_dict()
            shapes[mode] = {k: v.shape for k, v in state.items() if not k.startswith("reads.")}
        assert shapes["skip"] == shapes["replace"] == shapes["baseline"] == shapes["none"]

    @pytest.mark.parametrize("mode", MODES)
    def test_exactly_the_unused_is_frozen(self, mode):
        net = self.build({"spatial_dims": 2, **B0, "mode": mode}).train()
        sum(y.square().mean() for y in net(self.input(B0, (64, 64), batch=2))).backward()
        unused = {n for n, p in net.named_parameters() if p.grad is None}
        assert unused == {n for n, p in net.named_parameters() if not p.requires_grad}
        assert all(n.startswith("gate.") for n in unused)
        assert bool(unused) == (mode in ("replace", "none"))

    def test_baseline_is_emcad(self):
        net = self.live(mode="baseline")
        emcad = EMCADNet(2, **B0).double().eval()
        emcad.load_state_dict(net.state_dict())
        x = self.input(B0, (64, 96)).double()
        with torch.no_grad():
            assert torch.equal(net(x), emcad(x))

    def test_every_mode_computes_something_else(self):
        state = self.live().state_dict()
        x = self.input(B0, (64, 64)).double()
        outputs = []
        for mode in MODES:
            net = XAttnResEMCAD(**B0, mode=mode).double().eval()
            net.load_state_dict({k: state[k] for k in net.state_dict()})
            with torch.no_grad():
                outputs.append(net(x))
        for i in range(4):
            for j in range(i):
                assert not torch.allclose(outputs[i], outputs[j])

    @pytest.mark.parametrize("deepest_read", [False, True])
    @pytest.mark.parametrize(("spatial_dims", "size"), [(2, (64, 96)), (3, (32, 32, 64))])
    def test_both_paths_agree(self, spatial_dims, size, deepest_read):
        arguments = {"spatial_dims": spatial_dims, **B0, "deepest_read": deepest_read}
        x = self.input(B0, size).double()
        fast, twin = self.live(**arguments), XAttnResEMCAD(**arguments)
        assert_paths_agree(fast, twin, x, output=(1e-9, 1e-11), gradient=(1e-7, 1e-9))

    def test_reads_look_back_only(self):
        net = self.live()
        x = self.input(B0, (64, 64)).double()
        with torch.no_grad():
            before = net.decode(net.encoder(net.adapter(x)))
            net.mscam[1].convolution.project[1].bias.add_(1.0)
            after = net.decode(net.encoder(net.adapter(x)))
        assert torch.equal(after[0], before[0])
        for i in (1, 2, 3):
            assert not torch.allclose(after[i], before[i])
