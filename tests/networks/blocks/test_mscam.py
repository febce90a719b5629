# SPDX-License-Identifier: Apache-2.0
"""EMCAD's blocks, each held against its definition written out on small maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import EUCB, LGAG, MSCAM, MultiScaleConvBlock
from monai_ext.networks.blocks.spatial_attention import SpatialAttention


def lively(block: nn.Module) -> nn.Module:
    """Double precision, eval mode, and norms that are no identities."""
    torch.manual_seed(0)
    for module in block.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return block.double().eval()


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_channels_are_shuffled_evens_first():
    block = lively(MultiScaleConvBlock(2, 3, kernel_sizes=(3,)))
    x = picture(1, 3, 5, 5)
    wide = block.branches[0](block.expand(x))
    expected = x + block.project(wide[:, [0, 2, 4, 1, 3, 5]])
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-14)


def test_kernels_work_side_by_side():
    block = lively(MultiScaleConvBlock(2, 2, kernel_sizes=(1, 3, 5)))
    x = picture(2, 2, 6, 7)
    wide = block.expand(x)
    total = sum(branch(wide) for branch in block.branches)
    expected = x + block.project(total[:, [0, 2, 1, 3]])
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_both_paths_agree(spatial_dims):
    fast = lively(MultiScaleConvBlock(spatial_dims, 4)).train()
    plain = use_plain_path(MultiScaleConvBlock(spatial_dims, 4)).double().train()
    plain.load_state_dict(fast.state_dict())
    x = picture(2, 4, *[4] * spatial_dims).requires_grad_()
    outputs = [block(x) for block in (fast, plain)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-11, atol=1e-12)
    gradients = [
        torch.autograd.grad(y.square().sum(), [x, *block.parameters()]) for y, block in zip(outputs, (fast, plain))
    ]
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_mscam_is_its_three_parts_in_order():
    shared = SpatialAttention(2)
    block = lively(MSCAM(2, 16, spatial_attention=shared))
    assert block.spatial_attention is shared
    x = picture(1, 16, 6, 6)
    expected = block.convolution(shared(block.channel_attention(x)))
    assert torch.equal(block(x), expected)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_eucb_doubles_each_position(spatial_dims):
    block = lively(EUCB(spatial_dims, 4, 3))
    x = picture(1, 4, *[3] * spatial_dims)
    doubled = x
    for axis in range(2, spatial_dims + 2):
        doubled = doubled.repeat_interleave(2, dim=axis)
    _, conv, norm, relu = block.up
    torch.testing.assert_close(block(x), block.project(relu(norm(conv(doubled)))))
    assert block(x).shape == (1, 3, *[6] * spatial_dims)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_lgag_passes_a_fraction_of_the_skip(spatial_dims):
    block = lively(LGAG(spatial_dims, 4))
    gate, skip = picture(2, 4, *[4] * spatial_dims), 1 + picture(2, 4, *[4] * spatial_dims).square()
    share = block(gate, skip) / skip
    torch.testing.assert_close(share, share[:, :1].expand_as(share))  # one factor for all channels of a position
    assert ((share > 0) & (share < 1)).all()
    assert block.from_gate[0].weight.shape == (2, 2, *[3] * spatial_dims)  # pairs of channels
    assert not torch.allclose(block(skip, gate) / gate, share)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="channels must be even, got 5"):
        LGAG(2, 5)
    with pytest.raises(ValueError, match="kernel_sizes must be odd"):
        MultiScaleConvBlock(2, 4, kernel_sizes=())
    for block in (lambda: EUCB(1, 4, 2), lambda: LGAG(4, 4), lambda: MultiScaleConvBlock(1, 4)):
        with pytest.raises(ValueError, match="spatial_dims must be 2 or 3"):
            block()
