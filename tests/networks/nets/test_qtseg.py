# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest
import torch

from monai_ext.networks import use_plain_path
from monai_ext.networks.nets import QTSeg
from monai_ext.networks.weights import load_reference
from tests.data.parity import golden
from tests.networks.base import BaseNetworkTest, count_parameters, losses_of_steps
from tests.networks.inert import check_inert
from tests.networks.parity import check_parity

SMALL = {"base_width": 8, "num_heads": 4, "mlp_dim": 32}
TINY = {"base_width": 4, "num_heads": 2, "mlp_dim": 16}


def with_random_gates(net: QTSeg) -> QTSeg:
    """The channel gates start at zero, where an error in them would not show."""
    for name, p in net.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(p, 0.7)
    return net


class TestQTSeg(BaseNetworkTest):
    network = QTSeg
    cases = [
        {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "depths": (1, 1, 1), **SMALL},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 9, **TINY},  # so many tokens take the plain path
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "bridge": False, "depths": (2, 1, 1), **TINY},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "depths": (1, 1, 1), **TINY},
        {"spatial_dims": 3, "in_channels": 2, "out_channels": 3, **TINY},
    ]
    sizes = {2: [(64, 96), (33, 71)], 3: [(64, 32, 32), (32, 35, 40)]}
    too_small = {2: (31, 64), 3: (32, 32, 16)}
    inert = (r".*\.(attend_\w+|final_attention)\.key\.bias",)  # a softmax follows that does not see it
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3"),
        ({"depths": (1, 2)}, "depths must be three numbers from 1 on"),
        ({"depths": (1, 0, 2)}, "depths must be three numbers from 1 on"),
        ({"base_width": 15}, "base_width must be even"),
        ({"num_heads": 3}, "3 heads must divide half of the channels"),
        ({"out_channels": 0}, "num_tokens must be at least 1"),
    ]

    def test_published_size(self):
        assert count_parameters(QTSeg(2, 3, 2)) == 9_214_850

    def test_switches_take_their_parameters_away(self):
        full = count_parameters(QTSeg())
        assert full - count_parameters(QTSeg(bridge=False)) == 279_424
        assert full - count_parameters(QTSeg(spatial_gate=False)) == 6 * 2 * 7 * 7
        assert full - count_parameters(QTSeg(channel_gate=False)) == 6

    def test_computes_what_the_authors_code_computes(self):
        def forward(net, x):
            return {"masks": net(x), "features": net.forward_features(x)[1]}

        check_parity(lambda: QTSeg(2, 3, 2), "qtseg_256_c2", forward)

    def test_what_is_inert_in_the_authors_code_is_inert_here(self):
        check_inert(lambda: QTSeg(2, 3, 2), "qtseg_256_c2", (64, 32))

    @pytest.mark.parametrize("switch", [{}, {"spatial_gate": False}, {"channel_gate": False}, {"bridge": False}])
    @pytest.mark.parametrize("dims", [2, 3])
    def test_fast_path_equals_plain_path(self, dims, switch):
        if dims == 3 and switch:
            switch = {"out_channels": 1, "spatial_gate": False, "channel_gate": False}
        results = []
        for fast in (True, False):
            case = {"spatial_dims": dims, "in_channels": 1, **TINY, **switch}
            net = use_plain_path(with_random_gates(self.build(case)).double().train(), not fast)
            y = net(self.input(case, (50, 40, 33)[:dims], batch=2).double())
            (y * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))).sum().backward()
            results.append([y, *(p.grad for p in net.parameters())])  # each has one: distributed training waits for it
        largest = max(t.abs().max() for t in results[0])
        for fast, plain in zip(*results):
            torch.testing.assert_close(fast, plain, rtol=1e-8, atol=1e-11 * largest)

    def test_each_switch_changes_the_output(self):
        full = QTSeg(2, 3, 2).eval()
        load_reference(full, golden.build_state_dict(golden.load_case("qtseg_256_c2")))
        x = self.input({"in_channels": 3}, (32, 32))
        for switch in ("bridge", "spatial_gate", "channel_gate"):
            less = QTSeg(2, 3, 2, **{switch: False}).eval()
            less.load_state_dict({k: v for k, v in full.state_dict().items() if switch not in k})
            with torch.no_grad():
                assert (full(x) - less(x)).norm() > 0.01 * full(x).norm()

    def test_channel_gates_start_without_effect(self):
        x = self.input({"in_channels": 3}, (32, 32))
        full, less = self.build(SMALL).eval(), self.build({**SMALL, "channel_gate": False}).eval()
        less.load_state_dict({k: v for k, v in full.state_dict().items() if "channel_gate" not in k})
        with torch.no_grad():
            torch.testing.assert_close(full(x), less(x), rtol=1e-4, atol=1e-5)

    def test_one_class_leaves_the_map_nothing_to_choose(self):
        for fast in (True, False):
            net = self.build({"out_channels": 1, "in_channels": 1, **TINY}).double().train()
            use_plain_path(net, not fast)
            x = self.input({}, (32, 32), batch=2).double()
            net(x).sum().backward()
            gradients = {n: p.grad for n, p in net.named_parameters()}
            assert all((g == 0).all() for n, g in gradients.items() if ".attend_tokens.query" in n)
            assert all((g == 0).all() for n, g in gradients.items() if ".attend_tokens.key" in n)
            assert all((g != 0).any() for n, g in gradients.items() if ".attend_tokens.value" in n)
            # in eval mode the fast path skips that choice
            torch.testing.assert_close(net.eval()(x), use_plain_path(copy.deepcopy(net))(x), rtol=1e-9, atol=1e-10)

    def test_logits_are_inner_products_of_tokens_and_map(self):
        net = self.build(SMALL).eval()
        x = self.input({"in_channels": 3}, (64, 32), batch=2)
        with torch.no_grad():
            tokens, features = net.forward_features(x)
            half = torch.einsum("bkc,bchw->bkhw", tokens, features)
            assert half.shape == (2, 2, 32, 16)
            full = torch.nn.functional.interpolate(half, (64, 32), mode="bilinear", align_corners=False)
            torch.testing.assert_close(net(x), full)

    def test_size_is_padded_at_the_end(self):
        net = self.build(SMALL).eval()
        x = self.input({"in_channels": 3}, (40, 33))
        with torch.no_grad():
            padded = net(torch.nn.functional.pad(x, (0, 31, 0, 24)))
            assert torch.equal(net(x), padded[..., :40, :33])

    def test_encoder_can_be_frozen(self):
        net = self.build(SMALL).train()
        net.encoder.requires_grad_(False)
        net(self.input({"in_channels": 3}, (64, 64))).sum().backward()
        trained = {n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None}
        assert trained == {"tokens", "bridge", "stages"}

    def test_pretrained_encoder(self, tmp_path):
        state = golden.build_state_dict(golden.load_case("qtseg_256_c2"))
        prefix = "image_encoder."
        encoder = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        torch.save(encoder, tmp_path / "fpn-nano.pth")
        net = QTSeg(2, 3, 2, pretrained=tmp_path / "fpn-nano.pth")
        assert torch.equal(net.encoder.stage2[0].conv.weight, encoder["conv_0.conv.weight"])
        assert torch.equal(net.encoder.output5.merge.norm.running_var, encoder["c2f_21.cv2.bn.running_var"])
        with pytest.raises(ValueError, match=r"fpn-nano\.pth"):
            QTSeg(2, 1, 2, pretrained=tmp_path / "fpn-nano.pth")
        del encoder["sppf_9.cv1.conv.weight"]
        torch.save(encoder, tmp_path / "broken.pth")
        with pytest.raises(ValueError, match=r"stage5\.2\.reduce\.conv\.weight"):
            QTSeg(2, 3, 2, pretrained=tmp_path / "broken.pth")

    def test_a_copy_and_the_state_hold_no_position_map(self):
        net = self.build(SMALL).eval()
        before = list(net.state_dict())
        with torch.no_grad():
            net(self.input({"in_channels": 3}, (64, 64)))
        assert list(net.state_dict()) == before
        assert [k for k in before if "position" in k] == [f"stages.{i}.position.matrix" for i in range(3)]

    def test_learns_on_volumes_constant_along_one_axis(self):
        net = self.build({"spatial_dims": 3, "in_channels": 1, **TINY})
        label = (torch.arange(33) > 15).long().view(1, 33, 1, 1).expand(2, 33, 40, 35)
        noise = torch.rand(2, 1, 33, 40, 1, generator=torch.Generator().manual_seed(0))
        x = label.unsqueeze(1) + noise  # broadcast along the last axis
        losses = losses_of_steps(net, x, label, torch.optim.Adam(net.parameters(), lr=3e-3), 8)
        assert losses[-1] < 0.6 * losses[0]
