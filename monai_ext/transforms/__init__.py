# SPDX-License-Identifier: Apache-2.0
"""Transforms beside MONAI's: checks of volumes, label codes as classes, slices of one orientation and size, colours."""

from .colours import RGBToYCrCbd
from .inverting import InvertFromWorkerd
from .saving import SaveImageByCased
from .slice_orientation import OrientSlices, OrientSlicesd, slice_orientation
from .slice_resize import ResizeSlicesd, resize_slices
from .volumes import IGNORE, NOTICE, CheckVolumed, MapLabelsd, ScaleChannelsd, unlike_modality, unlike_patient

__all__ = [
    "IGNORE",
    "NOTICE",
    "CheckVolumed",
    "InvertFromWorkerd",
    "MapLabelsd",
    "OrientSlices",
    "OrientSlicesd",
    "RGBToYCrCbd",
    "ResizeSlicesd",
    "SaveImageByCased",
    "ScaleChannelsd",
    "resize_slices",
    "slice_orientation",
    "unlike_modality",
    "unlike_patient",
]
