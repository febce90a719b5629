# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.nets.basic_unet import TwoConv

from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

from .intra_stage_attention_residual import IntraStageAttentionResidual

__all__ = ["MemoryStage"]


class _Newest(nn.Module):
    """Stands where nothing is attended to: the newest map goes on as it is."""

    def forward(self, memory: list[torch.Tensor]) -> torch.Tensor:
        return memory[-1]


class MemoryStage(TwoPaths):
    """A stage of a U-Net that keeps the output of each of its blocks, for its own attention and for the skips.

    Each block is two 3x3 convolutions with batch norm and ReLU. Between two blocks, an
    :class:`IntraStageAttentionResidual` looks back at the stage's maps.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        channels: channels of every block.
        num_blocks: how many blocks.
        attention: whether to attend between blocks.
        distinct_memory: what the attention is offered. False, as published: the outputs of the blocks so far, the
            newest twice; before the second block that leaves nothing to choose. True: each map once and, where its
            channels allow, the stage's input too; without two maps to choose from there is no attention.
        query_init: see :class:`IntraStageAttentionResidual`.

    Raises:
        ValueError: for another ``spatial_dims``, or ``num_blocks`` below 1.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: a list of ``num_blocks`` maps ``(B, channels, *spatial)``, in the blocks' order

    Examples::

        >>> stage = MemoryStage(spatial_dims=2, in_channels=18, channels=36, num_blocks=2)
        >>> [m.shape for m in stage(torch.rand(1, 18, 56, 56))]
        [torch.Size([1, 36, 56, 56]), torch.Size([1, 36, 56, 56])]
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: int,
        num_blocks: int,
        attention: bool = True,
        distinct_memory: bool = False,
        query_init: str = "zero",
    ) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if num_blocks < 1:
            raise ValueError(f"monai_ext: {type(self).__name__}: num_blocks must be at least 1, got {num_blocks}.")
        self.offer_input = distinct_memory and in_channels == channels
        self.blocks = nn.ModuleList()
        self.attention = nn.ModuleList()  # the i-th follows the i-th block
        for i in range(num_blocks):
            width = in_channels if i == 0 else channels
            self.blocks.append(TwoConv(spatial_dims, width, channels, act="relu", norm="batch", bias=True))
            has_choice = not distinct_memory or i + 1 + self.offer_input >= 2
            self.attention.append(
                IntraStageAttentionResidual(spatial_dims, channels, not distinct_memory, query_init)
                if attention and has_choice and i + 1 < num_blocks
                else _Newest()
            )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        memory = [x] if self.offer_input else []
        for block, attend in zip(self.blocks, self.attention):
            memory.append(block(x))
            x = attend(memory)
        return memory[1:] if self.offer_input else memory
