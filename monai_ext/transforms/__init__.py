# SPDX-License-Identifier: Apache-2.0
"""Transforms beside MONAI's: checks of volumes, label codes as classes, slices of one size, colours."""

from .colours import RGBToYCrCbd
from .saving import SaveImageByCased
from .slice_resize import ResizeSlicesd, resize_slices
from .volumes import NOTICE, CheckVolumed, MapLabelsd, unlike_modality

__all__ = [
    "NOTICE",
    "CheckVolumed",
    "MapLabelsd",
    "RGBToYCrCbd",
    "ResizeSlicesd",
    "SaveImageByCased",
    "resize_slices",
    "unlike_modality",
]
