# SPDX-License-Identifier: Apache-2.0
"""Inferers beside MONAI's: 2D networks on volumes, and ensembles."""

from .ensemble import ProbabilityEnsemble, find_checkpoints
from .slices import SliceBatchInferer

__all__ = ["ProbabilityEnsemble", "SliceBatchInferer", "find_checkpoints"]
