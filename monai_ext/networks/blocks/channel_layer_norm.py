# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

__all__ = ["ChannelLayerNorm"]


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a channel-first map, position by position.

    The result keeps its channels adjacent in memory, so that the linear layers that follow need no copy.

    Args:
        channels: channels of input and output.
        eps: added to the variance.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> ChannelLayerNorm(64)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, 1)
