# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks.blocks import SPPF, C2f, ConvNormSiLU
from monai_ext.networks.nets import FPNEncoder
from tests.networks.base import count_parameters


def test_published_size():
    assert count_parameters(FPNEncoder(2, 3, 16)) == 2_259_536


@pytest.mark.parametrize("dims", [2, 3])
def test_strides_and_widths(dims):
    net = FPNEncoder(dims, 1, 4).eval()
    assert net.widths == (16, 32, 64)
    outputs = net(torch.rand(1, 1, 32, *[64] * (dims - 1)))
    for y, width, stride in zip(outputs, net.widths, (8, 16, 32)):
        assert y.shape == (1, width, 32 // stride, *[64 // stride] * (dims - 1))


def test_unit_pads_with_zeros_and_has_no_bias():
    unit = ConvNormSiLU(2, 2, 3, kernel_size=3, stride=2).eval()
    assert unit.conv.bias is None
    x = torch.rand(1, 2, 7, 6)
    expected = torch.nn.functional.conv2d(x, unit.conv.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(unit(x), torch.nn.functional.silu(expected))


def test_transposed_unit_writes_disjoint_cells():
    unit = ConvNormSiLU(3, 2, 3, stride=4, transposed=True).eval()
    x = torch.zeros(1, 2, 2, 2, 2)
    x[..., 0, 1, 0] = 1
    y = unit(x)
    assert y.shape == (1, 3, 8, 8, 8)
    written = (y != 0).any(dim=1)[0]
    assert written[:4, 4:, :4].all() and written.sum() == 64


@pytest.mark.parametrize("residual", [True, False])
def test_c2f_keeps_every_link(residual):
    torch.manual_seed(0)
    net = C2f(2, 6, 8, depth=2, residual=residual).eval()
    x = torch.rand(1, 6, 5, 5)
    a, b = net.split(x).chunk(2, 1)
    c = net.chain[0].second(net.chain[0].first(b)) + residual * b
    d = net.chain[1].second(net.chain[1].first(c)) + residual * c
    torch.testing.assert_close(net(x), net.merge(torch.cat([a, b, c, d], 1)))


def test_sppf_looks_1_5_9_and_13_wide():
    net = SPPF(2, 4).eval()
    seen = []
    net.merge.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.rand(1, 4, 15, 15)
    net(x)
    reduced = net.reduce(x)
    widths = [torch.nn.functional.max_pool2d(reduced, k, 1, k // 2) for k in (1, 5, 9, 13)]
    assert torch.equal(seen[0], torch.cat(widths, 1))


def test_bad_arguments():
    with pytest.raises(ValueError, match="out_channels must be even, got 7"):
        C2f(2, 4, 7)
    with pytest.raises(ValueError, match="channels must be even, got 7"):
        SPPF(2, 7)
    with pytest.raises(ValueError, match="base_width must be even and positive, got 0"):
        FPNEncoder(2, 3, 0)
    with pytest.raises(ValueError, match="spatial_dims"):
        FPNEncoder(4)
