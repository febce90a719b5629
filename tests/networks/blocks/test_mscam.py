# SPDX-License-Identifier: Apache-2.0
"""EMCAD's blocks, each held against its definition written out on small maps."""

from __future__ import annotations

import pytest
import torch

from monai_ext.networks.blocks import EUCB, LGAG, MSCAM, MultiScaleConvBlock
from monai_ext.networks.blocks.spatial_attention import SpatialAttention
from tests.networks.base import assert_paths_agree, lively, picture


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
    x = picture(2, 4, *[4] * spatial_dims)
    assert_paths_agree(fast, MultiScaleConvBlock(spatial_dims, 4), x, output=(1e-11, 1e-12), gradient=(1e-9, 1e-9))


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
