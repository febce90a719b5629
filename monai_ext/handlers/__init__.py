# SPDX-License-Identifier: Apache-2.0
"""Handlers of MONAI engines: checkpoints that survive, and a progress bar that says how long it takes."""

from .checkpoints import LastCheckpoint, SaveWeights
from .progress import TrainingProgress

__all__ = ["LastCheckpoint", "SaveWeights", "TrainingProgress"]
