# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import DifferentialCrossAttention, WindowCrossAttention, scheduled_lambda


def build(spatial_dims: int = 2, channels: int = 12, head_dim: int = 4, **kwargs) -> DifferentialCrossAttention:
    """A small block in float64 whose gains and lambda vectors are none that hide a mistake."""
    torch.manual_seed(0)
    block = DifferentialCrossAttention(spatial_dims, channels, head_dim=head_dim, **kwargs).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * (0.3 if parameter.dim() > 1 else 0.7))
    return block


def image(channels: int, *size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(block: DifferentialCrossAttention, x: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Equations (2)-(7) for one image, head by head; ``x`` is (N, C), ``keys`` (M, C)."""
    p = {name: value.detach().numpy() for name, value in block.named_parameters()}
    d = p["lambda_q1"].size
    factor = np.exp(p["lambda_q1"] @ p["lambda_k1"]) - np.exp(p["lambda_q2"] @ p["lambda_k2"]) + block.lambda_init

    def softmax(scores: np.ndarray) -> np.ndarray:
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    heads = []
    for first in range(0, x.shape[1], 2 * d):
        q = x @ p["query.weight"].T[:, first : first + 2 * d]
        k = keys @ p["key.weight"].T[:, first : first + 2 * d]
        v = keys @ p["value.weight"].T[:, first : first + 2 * d]
        a1 = softmax(q[:, :d] @ k[:, :d].T / math.sqrt(d))
        a2 = softmax(q[:, d:] @ k[:, d:].T / math.sqrt(d))
        o = (a1 - factor * a2) @ v
        rms = np.sqrt((o**2).mean(axis=1, keepdims=True) + 1e-5)
        heads.append((1 - block.lambda_init) * o / rms * p["norm.weight"])
    return np.concatenate(heads, axis=1) @ p["out.weight"].T


def window_means(x: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W) to (M, C), row by row; windows at the border hold fewer positions."""
    _, height, width = x.shape
    return np.stack(
        [
            x[:, i : i + side, j : j + side].mean(axis=(1, 2))
            for i in range(0, height, side)
            for j in range(0, width, side)
        ]
    )


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("size", [(14, 21), (9, 16), (8, 3)])
def test_equations_over_window_means(fast, size):
    block = use_plain_path(build(lambda_init=0.3), not fast)
    x = image(12, *size)
    got = block(x).detach().numpy()
    for b in range(2):
        one = x[b].numpy()
        expected = by_hand(block, one.reshape(12, -1).T, window_means(one, 7))
        np.testing.assert_allclose(got[b].reshape(12, -1).T, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("size", [(7, 7), (4, 6)])
def test_a_map_within_one_window_attends_to_every_position(fast, size):
    block = use_plain_path(build(), not fast)
    x = image(12, *size)
    got = block(x).detach().numpy()
    for b in range(2):
        rows = x[b].numpy().reshape(12, -1).T
        np.testing.assert_allclose(got[b].reshape(12, -1).T, by_hand(block, rows, rows), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fast", [False, True])
def test_equations_in_3d(fast):
    block = use_plain_path(build(3, window_size=2), not fast)
    x = image(12, 4, 3, 2, batch=1)
    volume = x[0].numpy()
    means = [volume[:, i : i + 2, j : j + 2].mean(axis=(1, 2, 3)) for i in (0, 2) for j in (0, 2)]
    expected = by_hand(block, volume.reshape(12, -1).T, np.stack(means))
    np.testing.assert_allclose(block(x)[0].detach().numpy().reshape(12, -1).T, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("spatial_dims", "size", "max_entries"),
    [
        (2, (14, 14), 2**17),  # one chunk
        (2, (15, 9), 24),  # one query a chunk: 6 maps, 6 keys
        (2, (23, 16), 700),  # the last chunk is shorter
        (2, (5, 7), 1000),  # all positions are keys
        (2, (100, 70), 2**17),  # chunks as they come by default
        (3, (9, 8, 7), 500),
    ],
)
def test_fast_path_equals_the_equations(spatial_dims, size, max_entries):
    plain = use_plain_path(build(spatial_dims, lambda_init=0.5))
    fast = build(spatial_dims, lambda_init=0.5, max_entries=max_entries)
    fast.load_state_dict(plain.state_dict())
    x = image(12, *size)
    weight = image(12, *size) * 3
    results = []
    for block in (plain, fast):
        leaf = x.clone().requires_grad_()
        y = block(leaf)
        (y * weight).sum().backward()
        results.append([y.detach(), leaf.grad, *(p.grad for p in block.parameters())])
    assert len(results[0]) == 2 + 9
    for a, b in zip(*results):
        assert a.abs().max() > 0
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-10)


def test_chunks_bound_the_maps():
    block = build(max_entries=1000)
    assert block.chunk_rows(torch.zeros(1, 6, 500, 2), keys=10) == 1000 // (6 * 10)
    assert block.chunk_rows(torch.zeros(1, 6, 500, 2), keys=5000) == 1
    assert block.chunk_rows(torch.zeros(1, 6, 500, 2, device="meta"), keys=10) == 500


def test_lambda_starts_near_its_constant_part():
    torch.manual_seed(0)
    for lambda_init in (0.2, 0.5, 0.8):
        block = DifferentialCrossAttention(2, 64, lambda_init=lambda_init)
        # a dot product of two vectors of 16 normals of 0.1 has a standard deviation of 0.04
        assert 0 < abs(block.lambda_full().item() - lambda_init) < 0.3


def test_lambda_vectors_and_gain_at_the_start():
    torch.manual_seed(0)
    block = DifferentialCrossAttention(2, 2048, head_dim=2048)
    for vector in (block.lambda_q1, block.lambda_k1, block.lambda_q2, block.lambda_k2):
        assert vector.shape == (1024,)
        assert abs(vector.mean().item()) < 0.015
        assert abs(vector.std().item() - 0.1) < 0.01
    assert torch.equal(block.norm.weight, torch.ones(2048))
    assert block.norm.eps == 1e-5


def test_lambda_schedule():
    assert [scheduled_lambda(layer) for layer in (1, 2, 18)] == pytest.approx(
        [0.2, 0.8 - 0.6 * math.exp(-0.3), 0.8 - 0.6 * math.exp(-5.1)], abs=1e-15
    )


@pytest.mark.parametrize("fast", [False, True])
def test_without_lambda_the_second_map_has_no_say(fast):
    block = use_plain_path(build(lambda_init=0.0), not fast)
    with torch.no_grad():
        for vector in (block.lambda_q1, block.lambda_q2):
            vector.zero_()
    x = image(12, 14, 21)
    rows, keys = x.flatten(2).transpose(1, 2), F.avg_pool2d(x, 7).flatten(2).transpose(1, 2)

    def heads(y: torch.Tensor) -> torch.Tensor:
        return y.unflatten(2, (3, 4)).transpose(1, 2)

    q1, k1 = heads(block.query(rows))[..., :2], heads(block.key(keys))[..., :2]
    o = F.scaled_dot_product_attention(q1, k1, heads(block.value(keys)))
    expected = block.out(F.rms_norm(o, (4,), block.norm.weight, 1e-5).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x).flatten(2).transpose(1, 2), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("size", "at"), [((9, 16), (8, 3)), ((5, 4), (2, 2)), ((4, 3, 9), (1, 2, 8))])
def test_maps_of_a_position_make_its_output(size, at):
    block = build(len(size), window_size=4)
    x = image(12, *size)
    first, second = block.maps_of_position(x, at)
    summary = block.summarise(x)
    assert first.shape == second.shape == (2, 3, *summary.shape[2:])
    torch.testing.assert_close(first.flatten(2).sum(2), torch.ones(2, 3).double())
    values = block.value(summary.flatten(2).transpose(1, 2)).unflatten(2, (3, 4))
    mixed = torch.einsum("bhm,bmhc->bhc", (first - block.lambda_full() * second).flatten(2), values)
    expected = block.out(((1 - block.lambda_init) * block.norm(mixed)).flatten(1))
    torch.testing.assert_close(block(x)[(slice(None), slice(None), *at)], expected, rtol=1e-9, atol=1e-10)


def test_rows_of_the_difference_sum_to_one_minus_lambda():
    block = use_plain_path(build(lambda_init=0.3))
    # values that are one everywhere leave the sum of each row, which is what the norm gets to see
    block.value = nn.Linear(12, 12).double()
    nn.init.zeros_(block.value.weight)
    nn.init.ones_(block.value.bias)
    seen = []
    block.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(image(12, 15, 20))
    expected = 1 - block.lambda_full()
    assert abs(expected.item()) > 0.01
    torch.testing.assert_close(seen[0], expected.expand(2, 3, 300, 4), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("size", [(7, 7), (10, 17)])
def test_a_constant_image_stays_constant(fast, size):
    y = use_plain_path(build(), not fast)(image(12, 1, 1).expand(2, 12, *size))
    assert y.abs().max() > 0.01
    torch.testing.assert_close(y, y[:, :, :1, :1].expand_as(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("spatial_dims", "size"), [(2, (30, 19)), (2, (5, 5)), (3, (8, 9, 4))])
def test_script(fast, spatial_dims, size):
    block = use_plain_path(build(spatial_dims, max_entries=150), not fast).eval()
    x = image(12, *size)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(block)(x), block(x), rtol=1e-12, atol=1e-12)


def test_an_exported_graph_is_not_cut_into_chunks():
    block = build(max_entries=100).eval()
    small, large = image(12, 14, 14), image(12, 70, 70)
    exported = torch.export.export(block, (large,))
    assert len(exported.graph.nodes) == len(torch.export.export(block, (small,)).graph.nodes)
    torch.testing.assert_close(exported.module()(large), block(large), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fast", [False, True])
def test_lambda_stays_in_float32_under_autocast(fast):
    block = use_plain_path(build(), not fast).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = block.lambda_full()
        assert torch.isfinite(block(image(12, 14, 14).float())).all()
    assert inside.dtype == torch.float32
    assert torch.equal(inside, block.lambda_full())


def test_half_precision_conversion():
    # torch.nn.Module has methods of many short names; an attribute must not hide one
    block = build().half().to(torch.bfloat16)
    assert block(image(12, 14, 14).bfloat16()).dtype == torch.bfloat16


def test_standard_attention_is_softmax_attention_over_window_means():
    torch.manual_seed(0)
    block = WindowCrossAttention(2, 12, head_dim=4).double()
    reference = nn.MultiheadAttention(12, 3, bias=False, batch_first=True).double()
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([block.query.weight, block.key.weight, block.value.weight]))
        reference.out_proj.weight.copy_(block.out.weight)
    x = image(12, 14, 14)
    rows, keys = x.flatten(2).transpose(1, 2), F.avg_pool2d(x, 7).flatten(2).transpose(1, 2)
    expected, _ = reference(rows, keys, keys)
    torch.testing.assert_close(block(x).flatten(2).transpose(1, 2), expected, rtol=1e-10, atol=1e-12)
    assert [name for name, _ in block.named_parameters()] == [f"{n}.weight" for n in ("query", "key", "value", "out")]
    assert torch.equal(torch.jit.script(block)(x), block(x))


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"spatial_dims": 1, "channels": 64}, "spatial_dims must be 2 or 3"),
        ({"spatial_dims": 2, "channels": 48}, "multiple of head_dim, got 48 and 32"),
        ({"spatial_dims": 2, "channels": 63, "head_dim": 21}, "head_dim must be even, got 21"),
        ({"spatial_dims": 2, "channels": 64, "window_size": 0}, "window_size must be at least 1"),
        ({"spatial_dims": 2, "channels": 64, "lambda_init": 1.0}, r"lambda_init must be in \[0, 1\)"),
        ({"spatial_dims": 2, "channels": 64, "max_entries": 0}, "max_entries must be at least 1"),
    ],
)
def test_bad_arguments(arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        DifferentialCrossAttention(**arguments)
