# SPDX-License-Identifier: Apache-2.0
"""Datasets as published, a user's own lists, phantoms, and slices drawn from volumes."""

from .dataset_info import Cohort, DatasetInfo
from .datasets import DATASETS, load_datalist, phantom_dir, write_phantom
from .readers import VolumeReader, find_images, read_geometry
from .slices import SliceDataset, SliceSampler
from .writers import AtomicNibabelWriter

__all__ = [
    "DATASETS",
    "AtomicNibabelWriter",
    "Cohort",
    "DatasetInfo",
    "SliceDataset",
    "SliceSampler",
    "VolumeReader",
    "find_images",
    "load_datalist",
    "phantom_dir",
    "read_geometry",
    "write_phantom",
]
