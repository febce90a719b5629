# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv

from monai_ext.networks.paths import TwoPaths
from monai_ext.networks.utils import check_spatial_dims

__all__ = ["ExpandHead"]


class ExpandHead(TwoPaths):
    """Raise the resolution by a transposed convolution without overlap, then map to classes by a 1x1 convolution.

    Nothing stands between the two, so they are one transposed convolution whose weight is their product: the fast path
    multiplies the weights, which are small, and never makes the full-resolution map of ``in_channels``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output, the classes.
        scale: factor of each spatial side.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *(scale * spatial))``

    Examples::

        >>> ExpandHead(2, 64, 9)(torch.rand(1, 64, 56, 56)).shape
        torch.Size([1, 9, 224, 224])
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, scale: int = 4) -> None:
        super().__init__()
        check_spatial_dims("ExpandHead", spatial_dims)
        self.scale = scale
        self.expand = Conv["CONVTRANS", spatial_dims](in_channels, in_channels, scale, stride=scale)
        self.classify = Conv["CONV", spatial_dims](in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.fast:
            return self.classify(self.expand(x))
        weight = self.classify.weight.flatten(1) @ self.expand.weight.flatten(2)
        weight = weight.unflatten(2, self.expand.weight.shape[2:])
        origin = x.new_zeros([1, x.shape[1]] + [1] * (x.dim() - 2))
        bias = self.classify(self.expand(origin)).flatten(2)[0, :, 0]  # both biases: what the layers make of zeros
        if x.dim() == 4:
            return F.conv_transpose2d(x, weight, bias, stride=self.scale)
        return F.conv_transpose3d(x, weight, bias, stride=self.scale)
