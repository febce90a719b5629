# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import MemoryRouting


def random_block(**arguments) -> MemoryRouting:
    torch.manual_seed(0)
    net = MemoryRouting(**{"spatial_dims": 2, "channels": 10, **arguments})
    torch.nn.init.normal_(net.norm.scale)
    return net.double()


def random_maps(n: int, dims: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    size = (5, 4, 3)[:dims]
    return [torch.randn(2, 10, *size, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(n)]


@pytest.mark.parametrize(("dims", "n"), [(2, 1), (2, 3), (3, 2)])
def test_fast_path_equals_the_definition(dims, n):
    results = []
    for fast in (False, True):
        net = use_plain_path(random_block(spatial_dims=dims), not fast)
        *memory, x = random_maps(n + 1, dims)
        y = net(memory, x)
        weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
        (y * weight).sum().backward()
        results.append([y, x.grad] + [m.grad for m in memory] + [p.grad for p in net.parameters()])
    for plain, fast in zip(*results):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fast", [True, False])
def test_zero_query_gives_the_mean_of_the_values(fast):
    net = use_plain_path(random_block(), not fast)
    torch.nn.init.zeros_(net.query.weight)
    *memory, x = random_maps(4)
    mean_value = net.key_value(sum(memory) / 3)[:, net.key_channels :]
    torch.testing.assert_close(net(memory, x), mean_value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("fast", [True, False])
def test_weights_sum_to_one_at_each_position(fast):
    net = use_plain_path(random_block(), not fast)
    with torch.no_grad():  # values are the maps themselves
        net.key_value.weight[net.key_channels :] = torch.eye(10).view(10, 10, 1, 1)
    *memory, x = [m.detach() for m in random_maps(4)]
    for m in memory:
        m[:, 0] = 1
    y = net(memory, x)
    torch.testing.assert_close(y[:, 0], torch.ones_like(y[:, 0]), rtol=1e-13, atol=0)
    assert not torch.allclose(y, sum(memory) / 3)


@pytest.mark.parametrize(("channels", "ratio", "keys"), [(144, 0.5, 72), (18, 0.5, 9), (10, 0.5, 8), (18, 1.0, 18)])
def test_width_of_the_keys(channels, ratio, keys):
    net = MemoryRouting(2, channels, ratio)
    assert net.key_value.weight.shape == (keys + channels, channels, 1, 1)
    assert net.query.weight.shape == (keys, channels, 1, 1)


def test_bad_arguments():
    with pytest.raises(ValueError, match="spatial_dims"):
        MemoryRouting(4, 10)
    with pytest.raises(ValueError, match="key_ratio must be positive, got 0"):
        MemoryRouting(2, 10, key_ratio=0)
