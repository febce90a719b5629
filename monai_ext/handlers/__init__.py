# SPDX-License-Identifier: Apache-2.0
"""Handlers of MONAI engines: checkpoints that survive, progress with the time left, a part frozen at first."""

from .bad_loss import StopOnBadLoss
from .checkpoints import LastCheckpoint, SaveWeights
from .freeze import FreezeUntil
from .progress import TrainingProgress
from .run_record import RunRecord
from .validation import ValidateEpochs

__all__ = [
    "FreezeUntil",
    "LastCheckpoint",
    "RunRecord",
    "SaveWeights",
    "StopOnBadLoss",
    "TrainingProgress",
    "ValidateEpochs",
]
