# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn

__all__ = ["ChannelGramAttention"]


class ChannelGramAttention(nn.Module):
    """Add to each channel a mixture of the channels least like it.

    With the map ``G`` as a matrix of channels by positions and its Gram matrix ``E = G G^T``, not scaled, the output is
    ``gamma * softmax(rowmax(E) - E) G + G``. ``gamma`` is one learned number that starts at 0. This is DANet's channel
    attention [1]_ as its code and QTSeg's have it.

    Shape:
        - input, output: ``(B, C, *spatial)`` for any ``C``

    Examples::

        >>> ChannelGramAttention()(torch.rand(1, 64, 32, 32)).shape
        torch.Size([1, 64, 32, 32])

    .. [1] Fu et al., "Dual Attention Network for Scene Segmentation", arXiv:1809.02983.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def affinity(self, x: torch.Tensor) -> torch.Tensor:
        """``softmax(rowmax(E) - E)``, ``(B, C, C)``, of a map ``(B, C, N)``."""
        energy = _gram(x)
        return torch.softmax(energy.amax(dim=-1, keepdim=True) - energy, dim=-1).to(x.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(2)
        return (self.gamma * torch.bmm(self.affinity(rows), rows)).view(x.shape) + x


def _gram(x: torch.Tensor) -> torch.Tensor:
    """``x x^T`` in at least float32: sums over all positions exceed float16, and bfloat16 rounds them too coarsely."""
    if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
        x = x.float()
    if not torch.jit.is_scripting():  # noqa: SIM102 - alone, TorchScript skips what it does not know
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return torch.bmm(x, x.transpose(1, 2))
    return torch.bmm(x, x.transpose(1, 2))
