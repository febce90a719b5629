# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.networks.layers.factories import Conv

from monai_ext.networks.utils import check_spatial_dims

__all__ = ["DepthwiseMLP"]


class DepthwiseMLP(nn.Module):
    """Let the hidden layer of a transformer's MLP see its neighbours.

    PVT v2's "convolutional feed-forward" [1]_: a 3x3 depth-wise convolution between the first linear layer and GELU.
    Its zero padding tells positions where the border is, so the network needs no position embedding.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of input and output.
        hidden_channels: channels of the hidden layer.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> DepthwiseMLP(2, 64, 512)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", arXiv:2106.13797.
    """

    def __init__(self, spatial_dims: int, channels: int, hidden_channels: int) -> None:
        super().__init__()
        check_spatial_dims("DepthwiseMLP", spatial_dims)
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.depthwise = Conv["CONV", spatial_dims](
            hidden_channels, hidden_channels, 3, padding=1, groups=hidden_channels
        )
        self.fc2 = nn.Linear(hidden_channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.fc1(x.movedim(1, -1)).movedim(-1, 1)
        hidden = F.gelu(self.depthwise(hidden))
        return self.fc2(hidden.movedim(1, -1)).movedim(-1, 1)
