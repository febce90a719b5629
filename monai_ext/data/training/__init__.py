# SPDX-License-Identifier: Apache-2.0
"""What feeds an epoch: slices and patches drawn from cached volumes."""

from .patch_dataset import VolumePatchDataset
from .slice_dataset import SliceDataset, SliceSampler

__all__ = ["SliceDataset", "SliceSampler", "VolumePatchDataset"]
