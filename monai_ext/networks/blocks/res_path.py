# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn as nn
from monai.networks.layers.factories import Conv, Norm

__all__ = ["ResPath"]


class ResPath(nn.Module):
    """A chain of residual convolutions in a skip: "Res path" of MultiResUNet [1]_, as in the DCA paper [2]_.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of both outputs.
        length: number of residual convolutions.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: the output, and the sum before its norm and ReLU, each ``(B, out_channels, *spatial)``

    Examples::

        >>> out, raw = ResPath(2, 51, 32, length=4)(torch.rand(1, 51, 64, 64))
        >>> out.shape
        torch.Size([1, 32, 64, 64])

    .. [1] Ibtehaz and Rahman, "MultiResUNet: Rethinking the U-Net Architecture for Multimodal Biomedical Image
        Segmentation", arXiv:1902.04049.
    .. [2] Ates et al., "Dual Cross-Attention for Medical Image Segmentation", arXiv:2303.17696.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, length: int) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * (length - 1)
        self.convs = nn.ModuleList(Conv["CONV", spatial_dims](width, out_channels, 3, padding=1) for width in widths)
        self.skips = nn.ModuleList(Conv["CONV", spatial_dims](width, out_channels, 1) for width in widths)
        self.norms = nn.ModuleList(Norm["BATCH", spatial_dims](out_channels) for _ in widths)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = x
        for conv, skip, norm in zip(self.convs, self.skips, self.norms):
            raw = conv(x) + skip(x)
            x = torch.relu(norm(raw))
        return x, raw
