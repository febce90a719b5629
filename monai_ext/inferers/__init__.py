# SPDX-License-Identifier: Apache-2.0
"""Inferers beside MONAI's: 2D networks on volumes."""

from .slices import SliceBatchInferer

__all__ = ["SliceBatchInferer"]
