# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import (
    ChannelGramAttention,
    DualMixAttention,
    FourierPositionMap,
    MultiLevelFeatureDistribution,
    QueryTokenStage,
    TokenAttention,
)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestTokenAttention:
    def build(self) -> TokenAttention:
        torch.manual_seed(0)
        return TokenAttention(24, num_heads=3).double()

    def test_equals_the_formula_head_by_head(self):
        net = self.build()
        query, key, value = randn(2, 5, 24), randn(2, 7, 24, seed=1), randn(2, 7, 24, seed=2)
        q, k, v = net.query(query), net.key(key), net.value(value)
        heads = []
        for h in range(3):
            own = slice(4 * h, 4 * h + 4)
            weights = torch.softmax(q[..., own] @ k[..., own].transpose(1, 2) / 4**0.5, dim=-1)
            heads.append(weights @ v[..., own])
        torch.testing.assert_close(net(query, key, value), net.out(torch.cat(heads, dim=-1)), rtol=1e-12, atol=1e-13)

    def test_tokens_that_ask_need_no_projection_of_the_map(self):
        net = self.build()
        tokens, keys, values = randn(2, 3, 24), randn(2, 24, 50, seed=1), randn(2, 24, 50, seed=2)
        rows, bias = net.query_rows(tokens)
        weights = torch.softmax(rows @ keys + bias, dim=2)
        got = net.from_context(weights @ values.transpose(1, 2))
        expected = net(tokens, keys.transpose(1, 2), values.transpose(1, 2))
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)

    def test_a_map_that_asks_needs_no_projection(self):
        net = self.build()
        features, tokens = randn(2, 24, 50), randn(2, 3, 24, seed=1)
        rows, bias = net.key_rows(tokens)
        weights = torch.softmax((rows @ features + bias).unflatten(1, (3, 3)), dim=2).flatten(1, 2)
        got = weights.transpose(1, 2) @ net.value_rows(tokens)
        torch.testing.assert_close(got, net(features.transpose(1, 2), tokens, tokens), rtol=1e-11, atol=1e-12)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="8 heads must divide half of the channels, got 40"):
            TokenAttention(40)
        with pytest.raises(ValueError, match="got 9 channels"):
            TokenAttention(9, num_heads=2)


class TestFourierPositionMap:
    @pytest.mark.parametrize("size", [(3, 5), (3, 5, 2)])
    def test_equals_the_definition_at_every_position(self, size):
        torch.manual_seed(0)
        net = FourierPositionMap(len(size), 12).double()
        got = net(torch.empty(2, 4, *size, dtype=torch.float64))
        assert got.shape == (1, 12, *size)
        for index in torch.cartesian_prod(*(torch.arange(n) for n in size)).tolist():
            # x is the last axis: row 0 of the matrix
            centres = torch.tensor([(i + 0.5) / n for i, n in zip(index, size)][::-1], dtype=torch.float64)
            phase = 2 * torch.pi * ((2 * centres - 1) @ net.matrix)
            expected = torch.cat([phase.sin(), phase.cos()])
            torch.testing.assert_close(got[(0, slice(None), *index)], expected, rtol=1e-12, atol=1e-13)

    def test_half_precision_rounds_the_map_only(self):
        torch.manual_seed(0)
        net = FourierPositionMap(2, 8).bfloat16()
        exact = FourierPositionMap(2, 8).double()
        exact.matrix.copy_(net.matrix)
        x = torch.zeros(1, 1, 4, 1024)
        got = net(x.bfloat16())
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), exact(x.double()), rtol=0, atol=2**-8)

    def test_matrix_is_saved_and_not_trained(self):
        net = FourierPositionMap(3, 8)
        assert net.state_dict()["matrix"].shape == (3, 4)
        assert not list(net.parameters())

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="channels must be even, got 7"):
            FourierPositionMap(2, 7)


class TestChannelGramAttention:
    def test_equals_the_definition(self):
        net = ChannelGramAttention().double()
        torch.nn.init.constant_(net.gamma, 0.6)
        x = randn(2, 5, 4, 3)
        for sample, got in zip(x, net(x)):
            g = sample.flatten(1)
            energy = g @ g.T
            weights = torch.exp(energy.amax(1, keepdim=True) - energy)
            weights = weights / weights.sum(1, keepdim=True)
            torch.testing.assert_close(got.flatten(1), 0.6 * weights @ g + g, rtol=1e-12, atol=1e-13)

    def test_starts_as_identity(self):
        x = randn(1, 5, 4, 3)
        assert torch.equal(ChannelGramAttention().double()(x), x)

    def test_affinity_is_exact_under_autocast(self):
        # sums over 4096 positions: bfloat16 would round the energies by 16
        net = ChannelGramAttention()
        x = randn(1, 16, 4096).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = net.affinity(x)
        torch.testing.assert_close(got, net.affinity(x.double()).float(), rtol=1e-2, atol=1e-6)


class TestDualMixAttention:
    @pytest.mark.parametrize("switch", [{}, {"spatial_gate": False}, {"channel_gate": False}])
    @pytest.mark.parametrize(("dims", "tokens"), [(2, 1), (2, 3), (3, 2)])
    def test_fast_path_equals_plain_path(self, dims, tokens, switch):
        size = (6, 5, 4)[:dims]
        results = []
        for fast in (False, True):
            torch.manual_seed(0)
            net = use_plain_path(DualMixAttention(dims, 24, num_heads=3, mlp_dim=8, **switch), not fast).double()
            if net.channel_gate is not None:
                torch.nn.init.constant_(net.channel_gate.gamma, 0.8)
            inputs = [randn(2, tokens, 24), randn(2, 24, *size, seed=1), randn(1, 24, *size, seed=2)]
            inputs = [x.requires_grad_() for x in inputs]
            new_tokens, features = net(*inputs)
            ((new_tokens * randn(*new_tokens.shape)).sum() + (features * randn(*features.shape)).sum()).backward()
            results.append([new_tokens, features, *(x.grad for x in inputs), *(p.grad for p in net.parameters())])
        for plain, fast in zip(*results):
            torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-11)

    def test_gates_change_the_result(self):
        inputs = randn(1, 2, 24), randn(1, 24, 6, 5, seed=1), randn(1, 24, 6, 5, seed=2)
        torch.manual_seed(0)
        net = DualMixAttention(2, 24, num_heads=3, mlp_dim=8).double()
        torch.nn.init.constant_(net.channel_gate.gamma, 0.8)
        full = net(*inputs)
        for gate in ("spatial_gate", "channel_gate"):
            less = DualMixAttention(2, 24, num_heads=3, mlp_dim=8, **{gate: False}).double()
            less.load_state_dict({k: v for k, v in net.state_dict().items() if gate not in k})
            assert all((a - b).abs().max() > 1e-4 for a, b in zip(full, less(*inputs)))

    def test_many_tokens_take_the_plain_path(self):
        torch.manual_seed(0)
        net = DualMixAttention(2, 24, num_heads=3, mlp_dim=8).double()
        inputs = randn(1, 4, 24), randn(1, 24, 6, 5, seed=1), randn(1, 24, 6, 5, seed=2)
        got = net(*inputs)
        net.fast = False
        assert all(torch.equal(a, b) for a, b in zip(got, net(*inputs)))


class TestMultiLevelFeatureDistribution:
    @pytest.mark.parametrize("dims", [2, 3])
    def test_each_level_comes_from_all_in_order(self, dims):
        torch.manual_seed(0)
        bridge = MultiLevelFeatureDistribution(dims, (8, 12, 16)).eval()
        levels = [torch.rand(1, c, *[8 >> i] * dims) for i, c in enumerate((8, 12, 16))]
        rebuilt = bridge(levels)
        assert [y.shape for y in rebuilt] == [x.shape for x in levels]
        shares = [[4, 2, 2], [3, 6, 3], [4, 4, 8]]
        for target in range(3):
            for source in range(3):
                changed = list(levels)
                changed[source] = levels[source] + 1
                moved = (bridge(changed)[target] - rebuilt[target]).abs().amax(dim=tuple(range(2, dims + 2)))[0] > 0
                start = sum(shares[target][:source])
                expected = [start <= c < start + shares[target][source] for c in range(len(moved))]
                assert moved.tolist() == expected

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="three multiples of 4"):
            MultiLevelFeatureDistribution(2, (8, 12, 18))
        with pytest.raises(ValueError, match="three multiples of 4"):
            MultiLevelFeatureDistribution(2, (8, 12))


def test_each_token_has_an_mlp_of_its_own():
    torch.manual_seed(0)
    stage = QueryTokenStage(2, 24, num_tokens=3, token_channels=8, map_channels=[8], num_heads=3, mlp_dim=8).double()
    tokens, features = randn(1, 3, 24), randn(1, 24, 4, 4, seed=1)
    before, carried = stage(tokens, features)
    assert before.shape == (1, 3, 8) and carried.shape == (1, 8, 8, 8)
    with torch.no_grad():
        stage.token_mlps[1][-1].bias += 1
    expected = before + torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1)
    torch.testing.assert_close(stage(tokens, features)[0], expected, rtol=1e-12, atol=1e-13)
