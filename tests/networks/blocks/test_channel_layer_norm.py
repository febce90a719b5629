# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks.blocks import ChannelLayerNorm


@pytest.mark.parametrize("size", [(5, 4), (3, 2, 4)])
def test_every_position_is_normalised_over_its_channels(size):
    torch.manual_seed(0)
    norm = ChannelLayerNorm(6, eps=1e-3).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, *size, dtype=torch.float64) * 3 + 1
    mean, variance = x.mean(dim=1, keepdim=True), x.var(dim=1, keepdim=True, unbiased=False)
    shape = (1, 6) + (1,) * len(size)
    expected = (x - mean) / (variance + 1e-3).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)
    assert norm(x).movedim(1, -1).is_contiguous()
    assert torch.equal(torch.jit.script(norm)(x), norm(x))
