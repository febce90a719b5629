# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch.nn as nn
from monai.networks.layers.factories import Conv, Norm

__all__ = ["ConvNormSiLU"]


class ConvNormSiLU(nn.Sequential):
    """A convolution without bias, batch norm, SiLU: the unit that YOLOv8's backbone and QTSeg are built of.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the kernel, odd; zeros are padded so that stride 1 keeps the size.
        stride: stride of the convolution.
        transposed: enlarge by ``stride`` with a transposed convolution of kernel ``stride``; ``kernel_size`` is unused.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *spatial)``, the sides divided (or multiplied) by ``stride``

    Examples::

        >>> ConvNormSiLU(2, 3, 16, kernel_size=3, stride=2)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 16, 32, 32])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        if transposed:
            conv = Conv["CONVTRANS", spatial_dims](in_channels, out_channels, stride, stride, bias=False)
        else:
            conv = Conv["CONV", spatial_dims](
                in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
            )
        self.add_module("conv", conv)
        self.add_module("norm", Norm["BATCH", spatial_dims](out_channels))
        self.add_module("act", nn.SiLU())
