# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.networks.blocks import IntraStageAttentionResidual, MemoryStage


def attentions(stage: MemoryStage) -> list[bool]:
    return [isinstance(m, IntraStageAttentionResidual) for m in stage.attention]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [True, True, False]),
        ({"attention": False}, [False, False, False]),
        ({"distinct_memory": True}, [False, True, False]),  # one map after the first block
        ({"distinct_memory": True, "in_channels": 6}, [True, True, False]),  # and the input, of the same width
    ],
)
def test_where_attention_is(arguments, expected):
    stage = MemoryStage(**{"spatial_dims": 2, "in_channels": 4, "channels": 6, "num_blocks": 3, **arguments})
    assert attentions(stage) == expected
    assert len(stage(torch.rand(2, arguments.get("in_channels", 4), 8, 8))) == 3


@pytest.mark.parametrize("distinct", [True, False])
def test_is_its_blocks_with_attention_between(distinct):
    torch.manual_seed(0)
    stage = MemoryStage(2, 6, 6, 3, distinct_memory=distinct, query_init="random").double().eval()
    x = torch.randn(1, 6, 8, 8, dtype=torch.float64)
    first = stage.blocks[0](x)
    second = stage.blocks[1](stage.attention[0]([x, first]) if distinct else first)
    third = stage.blocks[2](stage.attention[1]([x, first, second] if distinct else [first, second]))
    torch.testing.assert_close(stage(x), [first, second, third], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(torch.nn.Sequential(*stage.blocks)(x), third, rtol=1e-4)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_blocks must be at least 1, got 0"):
        MemoryStage(2, 4, 4, 0)
    with pytest.raises(ValueError, match="spatial_dims"):
        MemoryStage(1, 4, 4, 1)
