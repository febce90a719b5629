# SPDX-License-Identifier: Apache-2.0
"""Transforms beside MONAI's: checks, label codes as classes, slices of one orientation and size, augmentation."""

from .colours import RGBToYCrCbd
from .intensity_range import ScaleIntensityRanged
from .inverting import InvertFromWorkerd
from .random_view import FOREGROUND_CLASS, RandViewd
from .saving import SaveImageByCased
from .score_labels import ScoresToLabelsd
from .slice_orientation import OrientSlices, OrientSlicesd, slice_orientation
from .slice_resize import (
    ResizeSlicesd,
    ResizeVolumed,
    check_image_size,
    resize_slices,
    resize_volume,
    size_at_spacing,
    volume_size_at_spacing,
)
from .tissue_contrast import RandTissueContrastd
from .volumes import (
    IGNORE,
    NOTICE,
    CheckVolumed,
    MapLabelsd,
    ScaleChannelsd,
    gaps,
    no_image,
    unlike_modality,
    unlike_patient,
)

__all__ = [
    "FOREGROUND_CLASS",
    "IGNORE",
    "NOTICE",
    "CheckVolumed",
    "InvertFromWorkerd",
    "MapLabelsd",
    "OrientSlices",
    "OrientSlicesd",
    "RGBToYCrCbd",
    "RandTissueContrastd",
    "RandViewd",
    "ResizeSlicesd",
    "ResizeVolumed",
    "SaveImageByCased",
    "ScaleChannelsd",
    "ScaleIntensityRanged",
    "ScoresToLabelsd",
    "check_image_size",
    "gaps",
    "no_image",
    "resize_slices",
    "resize_volume",
    "size_at_spacing",
    "slice_orientation",
    "unlike_modality",
    "unlike_patient",
    "volume_size_at_spacing",
]
