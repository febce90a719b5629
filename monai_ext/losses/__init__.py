# SPDX-License-Identifier: Apache-2.0
"""Losses beside MONAI's: of several maps of a decoder, and of labels with regions or with voxels left out."""

from .label_loss import LabelLoss
from .mutation_loss import MutationLoss

__all__ = ["LabelLoss", "MutationLoss"]
