# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import DualCrossAttention

# skips of somebody's own network: (spatial_dims, channels, sizes), patches of 4
OWN = {
    "2d": (2, (8, 16, 32), ((24, 40), (12, 20), (6, 10))),
    "2d-odd": (2, (8, 8), ((23, 30), (12, 15))),
    "2d-coarse": (2, (8, 8, 8, 8), ((32, 32), (16, 16), (4, 4), (2, 2))),  # two maps coarser than the token grid
    "3d": (3, (8, 16), ((16, 12, 8), (8, 6, 4))),
    "3d-odd": (3, (8, 16), ((9, 12, 14), (5, 6, 7))),
}


def build(dims, channels, **arguments):
    torch.manual_seed(0)
    return DualCrossAttention(dims, channels, **{"patch_size": 4, **arguments}).double()


def maps_of(channels, sizes, batch=2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, c, *size, generator=generator).double() for c, size in zip(channels, sizes)]


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
@pytest.mark.parametrize("training", [True, False])
def test_fast_path_equals_the_equations(own, training):
    dims, channels, sizes = own
    gradients = []
    outputs = []
    for fast in (True, False):
        block = use_plain_path(build(dims, channels, num_blocks=2, channel_heads=2), not fast).train(training)
        maps = [x.requires_grad_() for x in maps_of(channels, sizes)]
        got = block(maps)
        assert [y.shape for y in got] == [x.shape for x in maps]
        sum((y * torch.linspace(-1, 1, y.numel()).double().reshape(y.shape)).sum() for y in got).backward()
        outputs.append(got)
        gradients.append({name: p.grad for name, p in block.named_parameters()} | dict(enumerate(x.grad for x in maps)))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-9)


def test_large_grid_takes_the_fused_attention_and_equals_it(monkeypatch):
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )
    maps = maps_of((4, 8), ((33, 33), (17, 17)), batch=1)
    fast, plain = (use_plain_path(build(2, (4, 8), patch_size=1), not fast).eval() for fast in (True, False))
    with torch.no_grad():
        torch.testing.assert_close(fast(maps), plain(maps), rtol=1e-10, atol=1e-10)
    assert len(calls) == 2


def test_every_scale_sees_every_other():
    block = build(2, (8, 16)).eval()
    maps = maps_of((8, 16), ((16, 16), (8, 8)), batch=1)
    changed = [maps[0], maps[1] + torch.linspace(0, 1, 64).double().reshape(8, 8)]
    with torch.no_grad():
        assert (block(maps)[0] - block(changed)[0]).abs().max() > 1e-3


def test_grid_follows_the_input_and_tokens_keep_their_size():
    seen = []
    block = build(2, (8,), patch_size=4)
    block.project[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    for size in ((16, 16), (32, 8), (3, 3)):
        block(maps_of((8,), (size,)))
    assert seen == [16, 16, 1]


@pytest.mark.parametrize(
    ("dims", "img_size", "patch_size"),
    [
        (2, 224, 8),
        (2, 1024, 8),
        (2, (2048, 1024), 16),
        (3, 96, 8),
        (3, (128, 128, 128), 8),
        (3, 224, 16),
        (3, (1024, 1024, 4), 16),
    ],
)
def test_patches_grow_until_the_tokens_of_a_training_image_fit(dims, img_size, patch_size):
    assert DualCrossAttention(dims, (4,), img_size).patch_size == patch_size


def test_every_parameter_takes_part_in_distributed_training():
    block = build(2, (8, 16))
    sum(y.sum() for y in block(maps_of((8, 16), ((8, 8), (4, 4))))).backward()
    assert all(p.grad is not None for p in block.parameters())


def test_scripts_for_any_number_of_maps():
    dims, channels, sizes = OWN["2d-coarse"]
    block = build(dims, channels).eval()
    maps = maps_of(channels, sizes)
    torch.testing.assert_close(torch.jit.script(block)(maps), block(maps), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": (8, 6)}, r"multiple of spatial_heads=4 .* got \[8, 6\]"),
        ({"channel_heads": 3}, "channel_heads=3"),
        ({"num_blocks": 0}, "num_blocks, .* must be positive, got 8, 0, 4, 1"),
        ({"img_size": (32, 32, 32)}, r"img_size must be one positive number or 2, got \(32, 32, 32\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DualCrossAttention(**{"spatial_dims": 2, "in_channels": (8, 16), **arguments})


def test_wrong_maps():
    with pytest.raises(ValueError, match=r"expected maps of \[8, 16\] channels, got \[8, 8\]"):
        build(2, (8, 16))(maps_of((8, 8), ((8, 8), (4, 4))))
