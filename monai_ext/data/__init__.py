# SPDX-License-Identifier: Apache-2.0
"""Datasets as published, a user's own lists, phantoms, and slices drawn from volumes."""

from .case_loader import CaseLoader, UnreadableCasesError
from .dataset_info import Cohort, DatasetInfo
from .datasets import DATASETS, check_pair, is_phantom, load_datalist, phantom_dir, phantom_image, write_phantom
from .patches import VolumePatchDataset
from .pictures import MaskReader, PictureReader, find_pictures
from .readers import VolumeReader, find_images, read_geometry
from .slices import SliceDataset, SliceSampler
from .splits import share_of_process
from .writers import AtomicItkWriter, AtomicNibabelWriter, AtomicPictureWriter

__all__ = [
    "DATASETS",
    "AtomicItkWriter",
    "AtomicNibabelWriter",
    "AtomicPictureWriter",
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
    "load_datalist",
    "phantom_dir",
    "phantom_image",
    "read_geometry",
    "share_of_process",
    "write_phantom",
]
