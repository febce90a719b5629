# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn

__all__ = ["ChannelRMSNorm"]


class ChannelRMSNorm(nn.Module):
    """Divide each position's channels by their root mean square, then scale each channel.

    ``x / sqrt(mean over channels of x^2 + eps) * scale``: no mean is removed and no bias added [1]_.

    Args:
        channels: channels of input and output.
        eps: added to the mean square.

    Shape:
        - input, output: ``(B, channels, *spatial)``

    Examples::

        >>> ChannelRMSNorm(64)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 64, 56, 56])

    .. [1] Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.
    """

    def __init__(self, channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(channels))

    def inverse_rms(self, x: torch.Tensor) -> torch.Tensor:
        """What each position is multiplied by before the scale, ``(B, 1, *spatial)``; float32 for half precision.

        An inner product with the normalised map needs no copy of it: ``(q * norm(v)).sum(1)`` equals
        ``(q * scale * v).sum(1)`` times this.
        """
        if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
            x = x.float()  # the square of 256 is beyond float16
        # eps joins the sum, not the mean: ONNX export takes an addend of 1e-8 for zero and drops it
        channels = x.shape[1]
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return torch.rsqrt(norm.square() + channels * self.eps) * channels**0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.scale.view([-1] + [1] * (x.dim() - 2))
        return (x * self.inverse_rms(x) * scale).to(x.dtype)
