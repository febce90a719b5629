# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import CrossStageAttentionResidual, cross_stage_attention_residual

CHANNELS = (4, 6, 8)


def block(spatial_dims: int = 2, channels=CHANNELS, live: bool = True, seed: int = 0, **arguments):
    torch.manual_seed(seed)
    read = CrossStageAttentionResidual(spatial_dims, channels, 6, **arguments).double()
    if live:
        nn.init.normal_(read.query)
        nn.init.normal_(read.norm.scale)
    return read


def sources(size=(8, 8), channels=CHANNELS, batch: int = 2) -> list[torch.Tensor]:
    """Twice as fine, equal, and half as fine as ``size``."""
    generator = torch.Generator().manual_seed(3)
    factors = [2.0, 1.0, 0.5]
    return [
        torch.randn(batch, c, *(int(s * f) for s in size), dtype=torch.float64, generator=generator)
        for c, f in zip(channels, factors)
    ]


def twin(read: CrossStageAttentionResidual, **arguments) -> CrossStageAttentionResidual:
    other = use_plain_path(block(**arguments))
    other.load_state_dict(read.state_dict())
    return other


@pytest.mark.parametrize("fast", [True, False])
def test_zero_query_is_the_mean_of_the_aligned_sources(fast):
    read = use_plain_path(block(live=False), not fast)
    fine, same, coarse = sources()
    aligned = [
        F.conv2d(F.avg_pool2d(fine, 2), read.project[0].weight),
        F.conv2d(same, read.project[1].weight),
        F.conv2d(F.interpolate(coarse, size=(8, 8), mode="bilinear", align_corners=False), read.project[2].weight),
    ]
    expected = torch.stack(aligned).mean(dim=0)
    torch.testing.assert_close(read([fine, same, coarse], [8, 8]), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fast", [True, False])
def test_source_weights_make_the_output(fast):
    read = use_plain_path(block(), not fast)
    maps, size = sources(), [8, 8]
    weights = read.source_weights(maps, size)
    assert weights.shape == (2, 3, 8, 8) and weights.std() > 0.05
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 8, 8).double())
    made = sum(weights[:, i : i + 1] * value for i, value in enumerate(read.align(maps, size)))
    torch.testing.assert_close(made, read(maps, size), rtol=1e-10, atol=1e-12)


def test_equations():
    """(4) to (8), position by position."""
    read = block(spatial_dims=2)
    maps, size = sources(), [8, 8]
    output = read(maps, size)
    values = [v.detach() for v in read.align(maps, size)]
    for p in [(0, 0, 0), (1, 3, 7), (0, 5, 2)]:
        v = torch.stack([value[p[0], :, p[1], p[2]] for value in values])
        keys = v / (v.square().mean(dim=1, keepdim=True) + 1e-8).sqrt() * read.norm.scale
        attention = torch.softmax(keys @ read.query, dim=0)
        torch.testing.assert_close(output[p[0], :, p[1], p[2]], attention @ v, rtol=1e-12, atol=1e-14)


def test_weights_sum_to_one_and_follow_their_sources():
    read = block()
    values = read.align(sources(), [8, 8])
    weights = read.weights(values)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones_like(weights[:, 0]), rtol=1e-12, atol=0)
    torch.testing.assert_close(read.weights([values[2], values[0], values[1]]), weights[:, [2, 0, 1]])


def test_permuting_the_sources_leaves_the_read():
    read = block()
    maps = sources()
    order = [2, 0, 1]
    other = block(channels=[CHANNELS[i] for i in order])
    for i, j in enumerate(order):
        other.project[i].load_state_dict(read.project[j].state_dict())
    other.query.data, other.norm.scale.data = read.query.data, read.norm.scale.data
    torch.testing.assert_close(other([maps[i] for i in order], [8, 8]), read(maps, [8, 8]), rtol=1e-12, atol=1e-14)


def test_scaling_a_source_scales_its_value_but_not_its_weight():
    read = block()
    values = read.align(sources(), [8, 8])
    louder = [values[0], 10 * values[1], values[2]]
    weights = read.weights(values)
    torch.testing.assert_close(read.weights(louder), weights, rtol=1e-5, atol=0)  # up to eps of the norm
    expected = read.read(values) + 9 * weights[:, 1:2] * values[1]
    torch.testing.assert_close(read.read(louder), expected, rtol=1e-5, atol=1e-7)


def test_one_source_is_projected_and_resized():
    read = block(channels=(4,))
    (fine, *_) = sources()
    expected = read.project[0](F.avg_pool2d(fine, 2))
    torch.testing.assert_close(read([fine], [8, 8]), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("arguments", [{}, {"resize": "nearest"}, {"identity_if_match": True}])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (4, 6, 8), (3, 5, 4)])
def test_both_paths_agree_also_at_odd_sizes(size, arguments):
    fast = block(len(size), **arguments)
    plain = twin(fast, spatial_dims=len(size), **arguments)
    maps = [source.requires_grad_() for source in sources(tuple(max(4, 2 * (s // 2)) for s in size))]
    outputs = [read(maps, list(size)) for read in (fast, plain)]
    assert outputs[0].shape == (2, 6, *size)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-10, atol=1e-12)
    gradients = [
        torch.autograd.grad(y.square().sum(), [*maps, *read.parameters()]) for y, read in zip(outputs, (fast, plain))
    ]
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_images_read_together_or_in_turns_give_the_same(monkeypatch):
    read = block()
    maps = [torch.cat([source, source.flip(1), -source]).requires_grad_() for source in sources()]
    found = []
    for chunk in (1, 2 * 6 * 64, 1 << 22):  # one image, two, all six
        monkeypatch.setattr(cross_stage_attention_residual, "CHUNK", chunk)
        y = read(maps, [8, 8])
        found.append([y, *torch.autograd.grad(y.square().sum(), [*maps, *read.parameters()])])
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_autocast_reads_in_half_precision():
    read = block().float()
    maps = [source.float() for source in sources()]
    expected = read(maps, [8, 8])
    with torch.autocast("cpu", torch.bfloat16):
        found = read(maps, [8, 8])
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_identity_if_match_saves_the_projection():
    read = block(identity_if_match=True)
    assert sum(p.numel() for p in read.parameters()) == (4 + 8) * 6 + 2 * 6
    assert sum(p.numel() for p in block().parameters()) == (4 + 6 + 8) * 6 + 2 * 6


def test_wrong_sources_are_refused():
    read = block()
    with pytest.raises(ValueError, match=r"\[4, 6, 8\] channels, got \[4, 6\]"):
        read(sources()[:2], [8, 8])
    with pytest.raises(ValueError, match="resize must be one of"):
        block(resize="cubic")
    with pytest.raises(ValueError, match="at least one source"):
        block(channels=())
