# SPDX-License-Identifier: Apache-2.0
"""Handlers of MONAI engines: checkpoints that survive, progress with the time left, a part frozen at first."""

from .checkpoints import LastCheckpoint, SaveWeights
from .freeze import FreezeUntil
from .guards import StopOnBadLoss
from .progress import TrainingProgress

__all__ = ["FreezeUntil", "LastCheckpoint", "SaveWeights", "StopOnBadLoss", "TrainingProgress"]
