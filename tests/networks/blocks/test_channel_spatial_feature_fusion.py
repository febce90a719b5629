# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from monai_ext.networks.blocks import ChannelSpatialFeatureFusion, ConcatenationFusion
from tests.networks.base import lively


def conv_norm_relu(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    conv = F.conv2d if x.dim() == 4 else F.conv3d
    norm = layer.adn.N
    x = conv(x, layer.conv.weight, padding=1)
    return torch.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))


def maps(*size: int, channels: int = 32) -> torch.Tensor:
    return torch.randn(2, channels, *size, dtype=torch.float64)


@pytest.mark.parametrize("size", [(9, 7), (4, 6, 5)])
@pytest.mark.parametrize("channel_attention", [True, False])
@pytest.mark.parametrize("spatial_attention", [True, False])
def test_equations(size, channel_attention, spatial_attention):
    torch.manual_seed(0)
    fuse = ChannelSpatialFeatureFusion(
        len(size), 32, reduction=8, channel_attention=channel_attention, spatial_attention=spatial_attention
    )
    lively(fuse)
    skip, up = maps(*size), maps(*size)
    y = torch.cat([conv_norm_relu(skip, fuse.refine_skip), conv_norm_relu(up, fuse.refine_up)], dim=1)  # (11), (12)
    y = conv_norm_relu(conv_norm_relu(y, fuse.fuse[0]), fuse.fuse[1])  # (13)
    axes = tuple(range(2, y.dim()))
    if channel_attention:
        first, second = fuse.channel_attention.fc1.weight.flatten(1), fuse.channel_attention.fc2.weight.flatten(1)
        assert first.shape == (4, 32)
        za, zm = y.mean(dim=axes), y.amax(dim=axes)  # (14)
        mc = torch.sigmoid(torch.relu(za @ first.T) @ second.T + torch.relu(zm @ first.T) @ second.T)  # (15)
        y = mc[(...,) + (None,) * len(size)] * y  # (16)
    if spatial_attention:
        summary = torch.stack([y.mean(dim=1), y.amax(dim=1)], dim=1)  # (17)
        conv = F.conv2d if len(size) == 2 else F.conv3d
        y = torch.sigmoid(conv(summary, fuse.spatial_attention.conv.weight, padding=3)) * y  # (18), (19)
    torch.testing.assert_close(fuse(skip, up), y, rtol=1e-10, atol=1e-10)
    assert torch.equal(torch.jit.script(fuse)(skip, up), fuse(skip, up))


def count(**kwargs) -> int:
    return sum(p.numel() for p in ChannelSpatialFeatureFusion(2, 64, **kwargs).parameters())


def test_parameters_of_the_switches():
    assert count() == 45 * 64**2 + 4 * 2 * 64 + 2 * 64**2 // 16 + 98 == 185_442
    assert count() - count(spatial_attention=False) == 98
    assert count() - count(channel_attention=False) == 2 * 64**2 // 16


@pytest.mark.parametrize("size", [(9, 7), (4, 6, 5)])
def test_concatenation_fusion(size):
    torch.manual_seed(0)
    fuse = ConcatenationFusion(len(size), 32, 48)
    lively(fuse)
    skip, up = maps(*size), maps(*size, channels=48)
    y = conv_norm_relu(torch.cat([skip, up], dim=1), fuse.convs.conv_0)
    y = conv_norm_relu(y, fuse.convs.conv_1)
    torch.testing.assert_close(fuse(skip, up), y, rtol=1e-10, atol=1e-10)
    assert torch.equal(torch.jit.script(fuse)(skip, up), fuse(skip, up))


@pytest.mark.parametrize("block", [ChannelSpatialFeatureFusion, ConcatenationFusion])
def test_bad_spatial_dims(block):
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 1"):
        block(1, 32, 32)
