# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks.blocks import ChannelRMSNorm


@pytest.mark.parametrize("size", [(5, 4), (5, 4, 3)])
def test_equals_the_definition(size):
    torch.manual_seed(0)
    norm = ChannelRMSNorm(6, eps=1e-8).double()
    torch.nn.init.normal_(norm.scale)
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    scale = norm.scale.reshape(1, 6, *[1] * len(size))
    expected = x / ((x**2).mean(1, keepdim=True) + 1e-8).sqrt() * scale
    torch.testing.assert_close(norm(x), expected, rtol=1e-13, atol=0)
    lean = (expected * x).sum(1, keepdim=True)
    torch.testing.assert_close((x * scale * x).sum(1, keepdim=True) * norm.inverse_rms(x), lean, rtol=1e-12, atol=1e-12)


def test_unit_scale_gives_unit_mean_square():
    x = torch.randn(1, 8, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = ChannelRMSNorm(8).double()(100 * x)
    torch.testing.assert_close(y.square().mean(1), torch.ones(1, 7, 7, dtype=torch.float64), rtol=1e-7, atol=0)


def test_eps_holds_zero_maps_and_their_gradient():
    norm = ChannelRMSNorm(4, eps=1e-6)
    x = torch.zeros(1, 4, 3, 3, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert (y == 0).all()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1e3))  # 1 / sqrt(eps)


def test_half_precision_does_not_overflow():
    x = torch.full((1, 4, 2, 2), 1000.0, dtype=torch.float16)
    y = ChannelRMSNorm(4)(x)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y, torch.ones_like(y))
