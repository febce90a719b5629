# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from monai.networks.blocks import Convolution

from monai_ext.networks.utils import check_option

__all__ = ["ASPP"]


class ASPP(nn.Module):
    """See a map at several dilations at once: atrous spatial pyramid pooling [1]_ as ResUNet++ and DoubleU-Net have it.

    Parallel dilated convolutions, each with batch norm, are summed or concatenated and merged by a 1x1 convolution with
    batch norm. MONAI's ``SimpleASPP`` has no norm in its branches.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of each branch and of the output.
        kernel_sizes: of each branch; a branch of size 1 has a bias always.
        dilations: of each branch.
        merge: ``"sum"`` or ``"cat"``.
        relu: put a ReLU behind every norm.
        bias: of all other convolutions.

    Raises:
        ValueError: if ``kernel_sizes`` and ``dilations`` differ in length or ``merge`` is neither.

    Shape:
        - input: ``(B, in_channels, *spatial)``
        - output: ``(B, out_channels, *spatial)``

    Examples::

        >>> ASPP(2, 256, 512)(torch.rand(1, 256, 28, 28)).shape
        torch.Size([1, 512, 28, 28])

    .. [1] Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", arXiv:1706.05587.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int] = (3, 3, 3, 3),
        dilations: Sequence[int] = (1, 6, 12, 18),
        merge: str = "sum",
        relu: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_option("ASPP", "merge", merge, ("sum", "cat"))
        if len(kernel_sizes) != len(dilations):
            raise ValueError(
                f"monai_ext: ASPP: kernel_sizes and dilations must be equally many, got {kernel_sizes} and {dilations}."
            )
        act = "RELU" if relu else None
        self.merge = merge
        self.branches = nn.ModuleList(
            Convolution(
                spatial_dims,
                in_channels,
                out_channels,
                kernel_size=kernel_size,
                dilation=dilation,
                act=act,
                norm="BATCH",
                bias=bias or kernel_size == 1,
            )
            for kernel_size, dilation in zip(kernel_sizes, dilations)
        )
        merged = out_channels * (len(dilations) if merge == "cat" else 1)
        self.out = Convolution(spatial_dims, merged, out_channels, kernel_size=1, act=act, norm="BATCH", bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: list[torch.Tensor] = []
        for branch in self.branches:
            outputs.append(branch(x))
        if self.merge == "cat":
            return self.out(torch.cat(outputs, dim=1))
        y = outputs[0]
        for output in outputs[1:]:
            y = y + output
        return self.out(y)
