# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import IntraStageAttentionResidual


def maps(n: int, dims: int = 2, channels: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    size = (5, 4, 3)[:dims]
    return [
        torch.randn(2, channels, *size, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(n)
    ]


def block(**arguments) -> IntraStageAttentionResidual:
    torch.manual_seed(0)
    net = IntraStageAttentionResidual(**{"spatial_dims": 2, "channels": 6, "query_init": "random", **arguments})
    torch.nn.init.normal_(net.query.weight)
    torch.nn.init.normal_(net.norm.scale)
    return net.double()


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize(("dims", "n"), [(2, 1), (2, 3), (3, 2)])
def test_fast_path_equals_the_definition(dims, n, twice, train):
    results = []
    for fast in (False, True):
        net = use_plain_path(block(spatial_dims=dims, count_newest_twice=twice), not fast).train(train)
        memory = maps(n, dims)
        y = net(memory)
        weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
        (y * weight).sum().backward()
        gradients = [m.grad for m in memory] + [p.grad for p in net.parameters()]
        results.append([y] + [torch.zeros(()) if g is None else g for g in gradients])
    for plain, fast in zip(*results):
        if fast.dim() == 0:  # without a choice the fast path in eval mode leaves the parameters out
            assert n == 1 and not train and plain.abs().max() < 1e-13
        else:
            torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)


def test_zero_query_gives_the_mean_of_the_maps():
    memory = maps(3)
    for fast in (True, False):
        net = use_plain_path(IntraStageAttentionResidual(2, 6, count_newest_twice=False), not fast).double()
        torch.testing.assert_close(net(memory), sum(memory) / 3, rtol=1e-14, atol=1e-15)
        net = use_plain_path(IntraStageAttentionResidual(2, 6), not fast).double()
        torch.testing.assert_close(net(memory), (sum(memory) + memory[-1]) / 4, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("fast", [True, False])
def test_weights_sum_to_one_at_each_position(fast):
    memory = [m.detach() for m in maps(3)]
    for m in memory:
        m[:, 0] = 1  # what all maps share, every mixture has
    y = use_plain_path(block(), not fast)(memory)
    torch.testing.assert_close(y[:, 0], torch.ones_like(y[:, 0]), rtol=1e-14, atol=0)
    assert not torch.allclose(y, sum(memory) / 3)


def test_newest_counted_twice_is_the_list_with_it_appended():
    memory = maps(2)
    for fast in (True, False):
        once = use_plain_path(block(count_newest_twice=False), not fast)([*memory, memory[-1]])
        torch.testing.assert_close(use_plain_path(block(), not fast)(memory), once, rtol=1e-12, atol=1e-13)


def test_one_map_comes_back_whatever_the_weights():
    memory = maps(1)
    assert torch.equal(block().eval()(memory), memory[0])
    for fast in (True, False):
        torch.testing.assert_close(use_plain_path(block(), not fast).train()(memory), memory[0], rtol=1e-15, atol=0)


def test_a_map_alike_the_query_wins():
    net = IntraStageAttentionResidual(2, 4, count_newest_twice=False).double()
    torch.nn.init.dirac_(net.query.weight)
    with torch.no_grad():
        net.query.weight *= 100
    newest = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64).view(1, 4, 1, 1)
    y = net([-newest, 3 * newest, newest.roll(1, 1), newest])
    torch.testing.assert_close(y, 2 * newest, rtol=1e-5, atol=0)


def test_bad_arguments():
    with pytest.raises(ValueError, match="spatial_dims"):
        IntraStageAttentionResidual(1, 6)
    with pytest.raises(ValueError, match="query_init must be one of 'zero', 'random'"):
        IntraStageAttentionResidual(2, 6, query_init="ones")


def test_random_query_starts_small():
    torch.manual_seed(0)
    std = IntraStageAttentionResidual(2, 128, query_init="random").query.weight.std().item()
    assert std == pytest.approx(0.01, rel=0.02)
