# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Norm

__all__ = ["RecurrentConvolution", "RecurrentResidualUnit"]


class RecurrentConvolution(nn.Module):
    """Apply one convolution ``steps + 1`` times with the same weights: ``y = f(x)``, then ``y = f(x + y)``.

    Args:
        conv: f, which keeps the number of channels and the size.
        steps: repetitions after the first pass.

    Shape:
        - input, output: ``(B, channels, *spatial)``
    """

    def __init__(self, conv: nn.Module, steps: int = 2) -> None:
        super().__init__()
        self.conv = conv
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        for _ in range(self.steps):
            y = self.conv(x + y)
        return y


class RecurrentResidualUnit(nn.Module):
    """Residual unit of R2U-Net [1]_ with norms as in the Dual Cross-Attention paper [2]_.

    A 1x1 convolution sets the channels; two recurrent convolutions, the second without norm and activation, refine the
    normalised result and are added to it. In training, a norm inside a recurrence sees three batches per pass.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of both outputs.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: the unit's output and the sum before its last norm and ReLU, each ``(B, out_channels, *spatial)``

    Examples::

        >>> out, raw = RecurrentResidualUnit(2, 3, 32)(torch.rand(1, 3, 64, 64))
        >>> out.shape
        torch.Size([1, 32, 64, 64])

    .. [1] Alom et al., "Recurrent Residual Convolutional Neural Network based on U-Net", arXiv:1802.06955.
    .. [2] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = Conv["CONV", spatial_dims](in_channels, out_channels, 1)
        self.project_norm = Norm["BATCH", spatial_dims](out_channels)
        self.recurrent = nn.Sequential(
            RecurrentConvolution(Convolution(spatial_dims, out_channels, out_channels, act="RELU", norm="BATCH")),
            RecurrentConvolution(Convolution(spatial_dims, out_channels, out_channels, conv_only=True)),
        )
        self.norm = Norm["BATCH", spatial_dims](out_channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.project(x)
        raw = x + self.recurrent(torch.relu(self.project_norm(x)))
        return torch.relu(self.norm(raw)), raw
