# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
import torch.nn as nn
from monai.losses import DiceCELoss
from torch.utils.flop_counter import FlopCounterMode

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import DCABlock, scheduled_lambda
from monai_ext.networks.nets import DCAUNet
from monai_ext.networks.nets.dcaunet import DCAUNetEncoder
from tests.networks.base import BaseNetworkTest, count_parameters

SMALL = {"channels": (64, 64, 96, 128), "depths": (1, 2, 1, 1)}


class TestDCAUNet(BaseNetworkTest):
    network = DCAUNet
    # the first case of each spatial_dims is also exported and compiled, which takes time for every block
    cases = [
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 9, **SMALL},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, **SMALL},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 9},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
        {"spatial_dims": 3, "in_channels": 4, "out_channels": 3, **SMALL},
        {"spatial_dims": 2, "in_channels": 3, "out_channels": 1, **SMALL, "attention": "standard"},
        {"spatial_dims": 2, "in_channels": 2, "out_channels": 2, **SMALL, "lambda_init": 0.5},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **SMALL, "norm_position": "post"},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **SMALL, "fusion": "unet"},
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, **SMALL, "fusion": "unet"},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **SMALL, "channel_attention": False},
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **SMALL, "spatial_attention": False},
    ]
    sizes = {2: [(64, 96), (33, 70)], 3: [(64, 64, 32), (33, 40, 32)]}
    too_small = {2: (31, 64), 3: (64, 64, 31)}
    bad_arguments = [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
        ({"channels": (64, 128, 256)}, "four"),
        ({"channels": (48, 96, 192, 384)}, "multiple of head_dim, got 48 and 32"),
        ({"depths": (1, 1, 1, 1, 1)}, "four"),
        ({"depths": (3, 4, 0, 3)}, "depths"),
        ({"attention": "linear"}, "'differential', 'standard'; got 'linear'"),
        ({"norm_position": "none"}, "'pre', 'post'; got 'none'"),
        ({"fusion": "sum"}, "'csff', 'unet'; got 'sum'"),
        ({"lambda_init": 1.5}, r"lambda_init must be in \[0, 1\), got 1.5"),
        ({"window_size": 0}, "window_size must be at least 1, got 0"),
    ]

    def build(self, case: dict) -> nn.Module:
        """With the statistics that training gives batch norm; without, logits of a new network are near 100."""
        net = super().build(case)
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                module.momentum = None
        with torch.no_grad():
            net.train()(self.input(case, self.sizes[case["spatial_dims"]][0]))
        return net


def without_data(**kwargs) -> DCAUNet:
    """A network whose weights have shapes only: enough to count, and made in no time."""
    with torch.device("meta"):
        return DCAUNet(**kwargs).eval()


def test_published_size():
    assert count_parameters(without_data()) == 21_564_271  # published: 21.56 M
    plain = use_plain_path(without_data())
    assert count_parameters(plain) == 21_564_271
    with FlopCounterMode(display=False) as counter:
        plain(torch.empty(1, 1, 224, 224, device="meta"))
    # 4.6436 G; 4.67 G are published by a counter that adds norms, interpolation and pooling to these products
    assert counter.get_total_flops() == 2 * 4_643_573_160


def test_published_budget_of_the_parts():
    net = without_data()
    assert [count_parameters(stage.embed) for stage in net.encoder.stages] == [3_264, 33_152, 131_840, 525_824]
    assert [count_parameters(stage.blocks) for stage in net.encoder.stages] == [151_392, 796_544, 6_331_136, 9_466_656]
    assert [count_parameters(up) for up in net.ups] == [131_584, 33_024, 8_320]
    assert [count_parameters(fusion) for fusion in net.fusions] == [2_959_458, 740_450, 185_442]
    assert count_parameters(net.head) == 66_185


def test_sizes_of_the_ablations():
    full = 21_564_271
    assert count_parameters(without_data(fusion="unet")) == 20_604_361
    assert count_parameters(without_data(spatial_attention=False)) == full - 3 * 98
    assert count_parameters(without_data(channel_attention=False)) == full - 2 * (64**2 + 128**2 + 256**2) // 16
    # without lambda vectors and gain of each head
    assert count_parameters(without_data(attention="standard")) == full - 18 * (4 * 16 + 32)
    assert count_parameters(without_data(norm_position="post")) == full
    assert count_parameters(without_data(lambda_init=0.8)) == full


def blocks_of(net: nn.Module) -> list[DCABlock]:
    return [module for module in net.modules() if isinstance(module, DCABlock)]


def test_lambda_of_every_block():
    assert [b.attention.lambda_init for b in blocks_of(without_data())] == [scheduled_lambda(i) for i in range(1, 19)]
    assert {b.attention.lambda_init for b in blocks_of(without_data(lambda_init=0.8))} == {0.8}


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (320, 200), (512, 512)])
def test_output_has_the_size_of_the_input(size):
    torch.manual_seed(0)
    net = DCAUNet(out_channels=3, **SMALL).eval()
    with torch.no_grad():
        y = net(torch.rand(1, 1, *size))
    assert y.shape == (1, 3, *size)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        ({}, (64, 97)),
        ({"lambda_init": 0.5, "norm_position": "post", **SMALL}, (224, 224)),  # several chunks in the first stage
        ({"fusion": "unet", **SMALL}, (33, 50)),
        ({"spatial_dims": 3, **SMALL}, (40, 32, 33)),
    ],
)
def test_fast_path_equals_the_plain_one(kwargs, size):
    torch.manual_seed(0)
    plain = use_plain_path(DCAUNet(out_channels=3, **kwargs)).double()
    fast = DCAUNet(out_channels=3, **kwargs).double()
    fast.load_state_dict(plain.state_dict())
    x = torch.rand(2, 1, *size, dtype=torch.float64)
    weight = torch.randn(2, 3, *size, dtype=torch.float64)
    results = []
    for net in (plain, fast):
        leaf = x.clone().requires_grad_()
        y = net.train()(leaf)
        (y * weight).mean().backward()
        with torch.no_grad():
            results.append([y.detach(), net.eval()(x), leaf.grad, *net.buffers(), *(p.grad for p in net.parameters())])
    for a, b in zip(*results):
        # gradients are compared on the scale of the tensor they belong to
        assert (a - b).abs().max() <= 1e-9 * a.abs().max().clamp(min=1e-3)


def test_plain_path_scripts():
    torch.manual_seed(0)
    net = use_plain_path(DCAUNet(**SMALL)).eval()
    x = torch.rand(1, 1, 70, 64)
    with torch.no_grad():
        assert torch.equal(torch.jit.script(net)(x), net(x))


def test_one_script_serves_many_sizes():
    torch.manual_seed(0)
    net = DCAUNet(**SMALL).eval()
    scripted = torch.jit.script(net)
    with torch.no_grad():
        for size in ((32, 32), (256, 130)):
            x = torch.rand(2, 1, *size)
            torch.testing.assert_close(scripted(x), net(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(torch.jit.Error, match="at least 32"):
        scripted(torch.rand(1, 1, 16, 64))


def test_a_grey_image_is_repeated():
    torch.manual_seed(0)
    grey, colour = DCAUNet(in_channels=1, **SMALL).eval(), DCAUNet(in_channels=3, **SMALL).eval()
    colour.load_state_dict(grey.state_dict())
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)))  # memory may be laid out otherwise
    assert DCAUNet(in_channels=2, **SMALL).encoder.stages[0].embed[0].weight.shape == (64, 2, 4, 4)


def test_evaluation_is_deterministic():
    torch.manual_seed(0)
    net = DCAUNet(**SMALL).eval()
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), net(x))


def test_encoder_gives_four_maps():
    maps = DCAUNetEncoder(2, **SMALL)(torch.rand(1, 3, 224, 224))
    assert [tuple(m.shape) for m in maps] == [(1, 64, 56, 56), (1, 64, 28, 28), (1, 96, 14, 14), (1, 128, 7, 7)]


def test_initial_weights():
    torch.manual_seed(0)
    net = DCAUNet()
    block = blocks_of(net)[-1]
    for linear in (block.attention.query, block.mlp.linear1):
        assert linear.weight.abs().max() <= 0.04
        assert 0.016 < linear.weight.std() < 0.019  # of a normal of 0.02 cut off at two
    fan_out = net.fusions[0].fuse[0].conv.weight
    assert fan_out.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)
    assert block.conv.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    vectors = torch.cat([p.flatten() for n, p in net.named_parameters() if "lambda_" in n])
    assert vectors.numel() == 18 * 4 * 16
    assert vectors.std().item() == pytest.approx(0.1, rel=0.1)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 1 and "lambda_" not in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name


@pytest.mark.parametrize("fast", [True, False])
def test_it_learns(fast):
    torch.manual_seed(0)
    net = use_plain_path(DCAUNet(out_channels=3, **SMALL), not fast)
    grid = torch.arange(64.0)
    circle = (grid[:, None] - 20) ** 2 + (grid - 25) ** 2 < 150
    label = torch.zeros(2, 1, 64, 64, dtype=torch.long)
    label[0, 0][circle] = 1
    label[1, 0][circle.T] = 1
    label[:, 0, 40:60, 30:55] = 2
    image = label * 0.3 + 0.1 * torch.randn(2, 1, 64, 64)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = criterion(net(image), label)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1
    assert losses[-1] < 0.35 * losses[0]


class TestPretrained:
    @pytest.fixture
    def net(self) -> DCAUNet:
        torch.manual_seed(7)
        return DCAUNet(out_channels=4, **SMALL)

    def save(self, tmp_path, content: object) -> str:
        torch.save(content, tmp_path / "weights.pt")
        return str(tmp_path / "weights.pt")

    @pytest.mark.parametrize("form", ["encoder", "prefixed", "whole"])
    def test_encoder_is_loaded_and_the_decoder_left(self, tmp_path, net, form):
        state = {
            "encoder": net.encoder.state_dict(),
            "prefixed": {k: v for k, v in net.state_dict().items() if k.startswith("encoder.")},
            "whole": net.state_dict(),
        }[form]
        torch.manual_seed(8)
        fresh = DCAUNet(in_channels=3, out_channels=2, **SMALL)
        torch.manual_seed(8)
        # other input and output channels: grey and colour share the stem, and the head is not of the encoder
        loaded = DCAUNet(in_channels=3, out_channels=2, pretrained=self.save(tmp_path, state), **SMALL)
        for key, value in loaded.state_dict().items():
            source = net if key.startswith("encoder.") else fresh
            assert torch.equal(value, source.state_dict()[key]), key

    def test_every_misfit_is_listed(self, tmp_path, net):
        state = net.encoder.state_dict()
        del state["stages.0.blocks.0.norm1.weight"]
        del state["stages.1.embed.0.bias"]
        state["stages.9.more"] = torch.zeros(1)
        state["stages.2.embed.1.weight"] = torch.zeros(5)
        path = self.save(tmp_path, state)
        with pytest.raises(ValueError) as error:
            DCAUNet(pretrained=path, **SMALL)
        message = str(error.value)
        assert path in message
        assert "4 keys" in message
        assert "missing: stages.0.blocks.0.norm1.weight\n" in message
        assert "missing: stages.1.embed.0.bias\n" in message
        assert "surplus: stages.9.more\n" in message
        assert "misshaped: stages.2.embed.1.weight is (5,), the network has (96,)" in message

    def test_other_files_are_refused(self, tmp_path):
        for content in (torch.zeros(3), {"epoch": 3}, {3: torch.zeros(1)}):
            path = self.save(tmp_path, content)
            with pytest.raises(ValueError, match=r"weights\.pt: holds no state_dict"):
                DCAUNet(pretrained=path, **SMALL)
        with pytest.raises(FileNotFoundError, match=r"no\.pt"):
            DCAUNet(pretrained=tmp_path / "no.pt", **SMALL)
