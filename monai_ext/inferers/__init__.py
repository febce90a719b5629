# SPDX-License-Identifier: Apache-2.0
"""Inferers beside MONAI's: 2D networks on volumes, windows of volumes as labels, and ensembles."""

from .ensemble import ProbabilityEnsemble, find_checkpoints, with_weights
from .slice_inferer import SliceBatchInferer
from .training_inferer import TrainingInferer
from .whole_image_inferer import WholeImageInferer, WindowImageInferer
from .window_inferer import SlidingWindowLabelInferer

__all__ = [
    "ProbabilityEnsemble",
    "SliceBatchInferer",
    "SlidingWindowLabelInferer",
    "TrainingInferer",
    "WholeImageInferer",
    "WindowImageInferer",
    "find_checkpoints",
    "with_weights",
]
