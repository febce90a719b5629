# SPDX-License-Identifier: Apache-2.0
"""Decoder blocks of two linear maps in a row, whose fast path changes their order or multiplies them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import ExpandHead, InterpolateProject


def both(block: type[nn.Module], *args: int) -> list[nn.Module]:
    torch.manual_seed(0)
    fast = block(*args).double()
    return [use_plain_path(copy.deepcopy(fast)), fast]


@pytest.mark.parametrize("block", [ExpandHead, InterpolateProject])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (2, 3, 4)])
def test_fast_path_equals_the_plain_one(block, training, size):
    results = []
    for module in both(block, len(size), 6, 4):
        module.train(training)
        torch.manual_seed(1)
        x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
        y = module(x)
        (y * torch.randn_like(y)).sum().backward()
        assert torch.equal(torch.jit.script(module.eval())(x), module(x))
        results.append([y.detach(), x.grad, *module.buffers(), *(p.grad for p in module.parameters())])
    for a, b in zip(*results):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [2, 4])
def test_expand_head_by_hand(scale):
    plain, fast = both(ExpandHead, 2, 5, 3, scale)
    x = torch.randn(1, 5, 3, 2, dtype=torch.float64)
    # each position makes its own scale x scale patch
    patches = torch.einsum("bihw,iokl->bohkwl", x, plain.expand.weight).reshape(1, 5, 3 * scale, 2 * scale)
    y = patches + plain.expand.bias.view(1, 5, 1, 1)
    y = torch.einsum("bihw,oi->bohw", y, plain.classify.weight.flatten(1)) + plain.classify.bias.view(1, 3, 1, 1)
    torch.testing.assert_close(plain(x), y, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(fast(x), y, rtol=1e-10, atol=1e-12)


def test_interpolate_project_by_hand():
    for module in both(InterpolateProject, 2, 6, 4):
        module.eval()
        nn.init.normal_(module.norm.running_mean)
        x = torch.randn(1, 6, 3, 5, dtype=torch.float64)
        y = F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), module.conv.weight)
        y = (y - module.norm.running_mean.view(1, 4, 1, 1)) / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(module(x), y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("block", [ExpandHead, InterpolateProject])
def test_bad_spatial_dims(block):
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 1"):
        block(1, 8, 4)
