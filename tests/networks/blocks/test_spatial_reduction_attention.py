# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks.blocks import DepthwiseMLP, PVTBlock, SpatialReductionAttention
from tests.networks.base import assert_paths_agree, picture


@pytest.mark.parametrize(("size", "reduction"), [((4, 6), 2), ((5, 7), 2), ((3, 3), 1), ((4, 4, 6), (1, 2, 2))])
def test_both_paths_agree(size, reduction):
    torch.manual_seed(0)
    fast, twin = (SpatialReductionAttention(len(size), 8, num_heads=2, reduction=reduction) for _ in range(2))
    x = picture(2, 8, *size)
    assert_paths_agree(fast.double(), twin, x, output=(1e-10, 1e-13), gradient=(1e-9, 1e-12))
    assert fast(x).shape == x.shape


def test_the_bias_of_keys_is_inert_that_of_values_is_not():
    torch.manual_seed(0)
    block = SpatialReductionAttention(2, 8, num_heads=2, reduction=2).double()
    x = picture(1, 8, 4, 4)
    before = block(x)
    with torch.no_grad():
        block.key_value.bias[:8] += 1.0
        torch.testing.assert_close(block(x), before, rtol=1e-11, atol=1e-13)
        block.key_value.bias[8:] += 1.0
        assert not torch.allclose(block(x), before)


def test_without_reduction_there_is_nothing_to_reduce_with():
    names = {name for name, _ in SpatialReductionAttention(2, 8, num_heads=2).named_parameters()}
    assert not any(name.startswith(("reduce", "norm")) for name in names)


def test_depthwise_mlp_sees_neighbours_only():
    torch.manual_seed(0)
    block = DepthwiseMLP(2, 4, 8).double()
    x = picture(1, 4, 7, 7)
    changed = x.clone()
    changed[:, :, 3, 3] += 1.0
    moved = (block(changed) - block(x)).abs().sum(dim=1)[0] > 1e-12
    assert moved[2:5, 2:5].all()
    assert moved.sum() == 9


def test_drop_path_is_for_training_only():
    torch.manual_seed(0)
    block = PVTBlock(2, 4, num_heads=1, drop_path=1.0)
    x = torch.rand(2, 4, 3, 3)
    assert torch.equal(block.train()(x), x)
    assert not torch.allclose(block.eval()(x), x)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="multiple of num_heads, got 8 and 3"):
        SpatialReductionAttention(2, 8, num_heads=3)
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3"):
        DepthwiseMLP(1, 8, 8)
