# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
import torch.nn as nn

from monai_ext.networks.utils import check_spatial_dims

__all__ = ["FourierPositionMap"]


class FourierPositionMap(nn.Module):
    """Where each position is, as sines and cosines of random projections of its coordinates [1]_.

    The centre of voxel ``i`` of ``n`` along an axis has the coordinate ``(2 i + 1) / n - 1``. The coordinates, last
    axis first (x, y and in 3D z), times 2 pi and a fixed normal ``spatial_dims x channels / 2`` matrix, give phases;
    the map holds their sines, then their cosines. The matrix is drawn once, saved, and not trained. The map is computed
    anew in every forward: that takes one percent of QTSeg's time, and no cache has to be kept right.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the map, even.

    Raises:
        ValueError: for another ``spatial_dims`` or odd ``channels``.

    Shape:
        - input: ``(B, C, *spatial)``; its size, type and device are used
        - output: ``(1, channels, *spatial)``

    Examples::

        >>> FourierPositionMap(2, 64)(torch.rand(4, 64, 32, 32)).shape
        torch.Size([1, 64, 32, 32])

    .. [1] Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions", arXiv:2006.10739.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        check_spatial_dims(type(self).__name__, spatial_dims)
        if channels % 2:
            raise ValueError(f"monai_ext: {type(self).__name__}: channels must be even, got {channels}.")
        self.matrix = nn.Buffer(torch.randn(spatial_dims, channels // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # in half precision neighbours in an image of 256 would share a coordinate
        matrix = self.matrix if self.matrix.dtype == torch.float64 else self.matrix.float()
        phase = torch.zeros(1, dtype=matrix.dtype, device=matrix.device)
        for row in range(matrix.shape[0]):
            size = x.shape[x.dim() - 1 - row]
            coordinate = (torch.arange(size, dtype=matrix.dtype, device=matrix.device) * 2 + 1) / size - 1
            along_axis = 2 * math.pi * matrix[row].unsqueeze(1) * coordinate
            phase = phase + along_axis.view([-1] + [1] * (matrix.shape[0] - 1 - row) + [size] + [1] * row)
        return torch.cat([phase.sin(), phase.cos()]).unsqueeze(0).to(x.dtype)
