# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn

__all__ = ["SqueezeExcite"]


class SqueezeExcite(nn.Module):
    """Weight each channel by the sigmoid of an MLP on the channels' averages [1]_.

    MONAI's ``ChannelSELayer`` is the same with biases, which ResUNet++ and DoubleU-Net do not have.

    Args:
        channels: channels of input and output.
        reduction: the MLP's hidden width is ``channels // reduction``.

    Raises:
        ValueError: if that leaves no hidden channel.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> SqueezeExcite(64)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction
        if hidden < 1:
            raise ValueError(
                f"monai_ext: SqueezeExcite: channels must be at least reduction={reduction}, got {channels}."
            )
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.mlp(x.flatten(2).mean(2))
        return x * weight.reshape(list(weight.shape) + [1] * (x.dim() - 2))
