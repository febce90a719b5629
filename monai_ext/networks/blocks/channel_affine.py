# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn

__all__ = ["ChannelAffine"]


class ChannelAffine(nn.Module):
    """One factor and one shift per channel of a token matrix: a depth-wise 1x1 convolution without its layout.

    The parameters have the shape and the initial distribution of that convolution, so its checkpoints fit.

    Args:
        spatial_dims: 2 or 3, the dimensions of the convolution that ``weight`` stands for.
        channels: channels of input and output.

    Shape:
        - input, output: ``(B, N, channels)``

    Examples::

        >>> ChannelAffine(2, 32)(torch.rand(1, 784, 32)).shape
        torch.Size([1, 784, 32])
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, *[1] * spatial_dims).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight.flatten() + self.bias
