# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_ext.networks import use_plain_path
from monai_ext.networks.blocks import DCABlock, DifferentialCrossAttention, WindowCrossAttention


def build(spatial_dims: int = 2, channels: int = 32, **kwargs) -> DCABlock:
    torch.manual_seed(0)
    return DCABlock(spatial_dims, channels, **kwargs).double()


def image(*size: int) -> torch.Tensor:
    return torch.randn(2, 32, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, (9, 15)), (3, (8, 3, 5))])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("attention", ["differential", "standard"])
def test_equations(spatial_dims, size, norm_position, attention):
    block = build(spatial_dims, norm_position=norm_position, attention=attention)
    x = image(*size)

    def norm(y: torch.Tensor, layer: torch.nn.LayerNorm) -> torch.Tensor:
        return F.layer_norm(y.movedim(1, -1), (32,), layer.weight, layer.bias).movedim(-1, 1)

    def mlp(y: torch.Tensor) -> torch.Tensor:
        first, second = block.mlp.linear1, block.mlp.linear2
        hidden = F.gelu(F.linear(y.movedim(1, -1), first.weight, first.bias))
        return F.linear(hidden, second.weight, second.bias).movedim(-1, 1)

    torch.nn.init.normal_(block.norm1.weight)
    torch.nn.init.normal_(block.norm2.weight)
    conv = F.conv2d if spatial_dims == 2 else F.conv3d
    y = x + conv(x, block.conv.weight, block.conv.bias, padding=1, groups=32)
    if norm_position == "pre":
        y = y + block.attention(norm(y, block.norm1))
        y = y + mlp(norm(y, block.norm2))
    else:
        y = norm(y + block.attention(y), block.norm1)
        y = norm(y + mlp(y), block.norm2)
    torch.testing.assert_close(block(x), y, rtol=1e-10, atol=1e-10)
    assert torch.equal(torch.jit.script(block)(x), block(x))


def test_published_budget():
    # 12 C^2 for the projections and the MLP; 10 C for the convolution, 5 C biases of the MLP, 4 C for the norms
    for channels in (64, 512):
        count = sum(p.numel() for p in DCABlock(2, channels).parameters())
        assert count == 12 * channels**2 + 19 * channels + 4 * 16 + 32
        standard = sum(p.numel() for p in DCABlock(2, channels, attention="standard").parameters())
        assert count - standard == 4 * 16 + 32


def test_arguments_reach_the_attention():
    attention = use_plain_path(build(attention="differential", lambda_init=0.4, head_dim=16, window_size=3)).attention
    assert isinstance(attention, DifferentialCrossAttention)
    assert (attention.lambda_init, attention.head_dim, attention.heads, attention.window_size, attention.fast) == (
        0.4,
        16,
        2,
        3,
        False,
    )
    attention = build(attention="standard", head_dim=16, window_size=3).attention
    assert type(attention) is WindowCrossAttention
    assert (attention.head_dim, attention.window_size) == (16, 3)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"spatial_dims": 4, "channels": 64}, "spatial_dims must be 2 or 3"),
        ({"spatial_dims": 2, "channels": 65}, "multiple of head_dim"),
        ({"spatial_dims": 2, "channels": 64, "attention": "linear"}, "'differential', 'standard'; got 'linear'"),
        ({"spatial_dims": 2, "channels": 64, "norm_position": "mid"}, "'pre', 'post'; got 'mid'"),
        ({"spatial_dims": 2, "channels": 64, "mlp_ratio": 0}, "mlp_ratio must be at least 1"),
    ],
)
def test_bad_arguments(arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        DCABlock(**arguments)
