# SPDX-License-Identifier: Apache-2.0
"""Datasets as published, a user's own lists, phantoms, and slices drawn from volumes."""

from .case_loader import CaseLoader, UnreadableCasesError
from .datalists import check_pair, is_phantom, load_datalist, phantom_dir, phantom_image, write_phantom
from .datasets import DATASETS, Cohort, DatasetInfo
from .files import (
    AtomicItkWriter,
    AtomicNibabelWriter,
    AtomicPictureWriter,
    MaskReader,
    PictureReader,
    VolumeReader,
    find_images,
    find_pictures,
    read_geometry,
)
from .lists import CaseList, listed_class_names, read_list
from .splits import share_of_process
from .training import SliceDataset, SliceSampler, VolumePatchDataset

__all__ = [
    "DATASETS",
    "AtomicItkWriter",
    "AtomicNibabelWriter",
    "AtomicPictureWriter",
    "CaseList",
    "CaseLoader",
    "Cohort",
    "DatasetInfo",
    "MaskReader",
    "PictureReader",
    "SliceDataset",
    "SliceSampler",
    "UnreadableCasesError",
    "VolumePatchDataset",
    "VolumeReader",
    "check_pair",
    "find_images",
    "find_pictures",
    "is_phantom",
    "listed_class_names",
    "load_datalist",
    "phantom_dir",
    "phantom_image",
    "read_geometry",
    "read_list",
    "share_of_process",
    "write_phantom",
]
