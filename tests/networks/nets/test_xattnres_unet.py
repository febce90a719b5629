# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from monai_ext.networks.nets import XAttnResUNet
from tests.networks.base import BaseNetworkTest, assert_paths_agree, count_parameters, losses_of_steps

SMALL = (4, 6, 8, 10)


class TestXAttnResUNet(BaseNetworkTest):
    network = XAttnResUNet
    cases = [
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL},
        {"spatial_dims": 2, "in_channels": 3, "out_channels": 1, "features": SMALL, "mode": "baseline"},
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL, "mode": "replace", "encoder_residual": True},
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL, "mode": "none", "upsample": "deconv"},
        {"spatial_dims": 2, "in_channels": 1, "features": SMALL, "inject": "concat", "encoder_reads": False},
        {"spatial_dims": 3, "in_channels": 2, "out_channels": 3, "features": SMALL},
    ]
    sizes = {2: [(32, 48), (33, 8)], 3: [(16, 16, 32), (9, 17, 16)]}
    too_small = {2: (7, 32), 3: (16, 16, 7)}
    # while queries are zero, the norm's scale has no say; with one source nothing is weighed
    inert = (r"(en|de)coder_reads\.\d\.norm\.scale", r"encoder_reads\.0\.query")
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"mode": "both"}, "mode must be one of 'skip', 'replace', 'baseline', 'none'; got 'both'"),
        ({"inject": "sum"}, "inject must be one of 'add', 'concat'"),
        ({"inject": "concat", "mode": "replace"}, "needs a skip and a read"),
        ({"features": (4,)}, "at least 2 stages"),
    ]

    def test_size(self):
        sizes = {mode: count_parameters(XAttnResUNet(mode=mode)) for mode in ("skip", "replace", "baseline", "none")}
        assert sizes["none"] == sizes["baseline"]
        assert sizes["replace"] == sizes["skip"]
        assert sizes["skip"] - sizes["baseline"] == 2_826_240 + 2 * (2 * (64 + 128 + 256 + 512))  # projections, vectors
        assert count_parameters(XAttnResUNet(encoder_reads=False)) - sizes["baseline"] == 2_191_360 + 2 * 960

    def test_mode_changes_no_other_parameter(self):
        shapes = {}
        for mode in ("skip", "replace", "baseline", "none"):
            state = XAttnResUNet(features=SMALL, mode=mode).state_dict()
            shapes[mode] = {k: v.shape for k, v in state.items() if "_reads." not in k}
        assert shapes["skip"] == shapes["replace"] == shapes["baseline"] == shapes["none"]

    def live(self, case: dict, **more) -> nn.Module:
        """A network whose queries and norms are no longer at their initial values."""
        net = self.build({**case, **more}).double()
        for name, parameter in net.named_parameters():
            if name.endswith(("query", "norm.scale")):
                nn.init.normal_(parameter)
        return net

    @pytest.mark.parametrize("mode", ["skip", "replace"])
    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_both_paths_agree(self, spatial_dims, mode):
        case = {"spatial_dims": spatial_dims, "in_channels": 1, "features": SMALL, "mode": mode}
        x = self.input(case, self.sizes[spatial_dims][0], batch=2).double()
        fast = self.live(case).train()
        assert_paths_agree(fast, XAttnResUNet(**case), x, output=(1e-9, 1e-10), gradient=(1e-6, 1e-8))

    def test_one_step_brings_the_norms_to_life(self):
        net = self.live(self.cases[0])
        net.train()(self.input(self.cases[0], (32, 48)).double()).square().sum().backward()
        scales = {n: p.grad.abs().max() for n, p in net.named_parameters() if n.endswith("norm.scale")}
        assert [n for n, grad in scales.items() if grad == 0] == ["encoder_reads.0.norm.scale"]

    def test_reads_look_back_only(self):
        """A decoder map must not reach what was computed before it."""
        net = self.live(self.cases[0]).eval()
        x = self.input(self.cases[0], (32, 48)).double()
        seen: dict[str, torch.Tensor] = {}
        for i, stage in enumerate(net.decoder):
            stage.register_forward_hook(lambda module, args, output, i=i: seen.update({f"d{i}": output}))
        net.encoder[-1].register_forward_hook(lambda module, args, output: seen.update(bottom=output))
        with torch.no_grad():
            net(x)
            before = dict(seen)
            for parameter in net.decoder[1].parameters():
                parameter.add_(0.5)
            net(x)
        assert torch.equal(seen["bottom"], before["bottom"])
        assert torch.equal(seen["d0"], before["d0"])
        assert not torch.allclose(seen["d1"], before["d1"])
        assert not torch.allclose(seen["d2"], before["d2"])

    def test_every_mode_computes_something_else(self):
        state = self.live(self.cases[0]).state_dict()
        x = self.input(self.cases[0], (32, 48)).double()
        outputs = []
        for mode in ("skip", "replace", "baseline", "none"):
            net = XAttnResUNet(features=SMALL, mode=mode).double().eval()
            net.load_state_dict({k: state[k] for k in net.state_dict()})
            outputs.append(net(x))
        for i in range(4):
            for j in range(i):
                assert not torch.allclose(outputs[i], outputs[j])

    def test_volume_constant_along_one_axis_trains(self):
        torch.manual_seed(0)
        net = XAttnResUNet(spatial_dims=3, in_channels=1, out_channels=2, features=SMALL)
        x = torch.rand(1, 1, 1, 16, 16).expand(1, 1, 16, 16, 16)
        target = (x[:, 0] > 0.5).long()
        losses = losses_of_steps(net, x, target, torch.optim.AdamW(net.parameters(), lr=1e-2), 6)
        assert losses[-1] < losses[0]
