# SPDX-License-Identifier: Apache-2.0
"""What is on disk: volumes and pictures in every format the collection reads, and writers that leave no half file."""

from .picture_reader import MaskReader, PictureReader, find_pictures
from .volume_finder import find_images
from .volume_reader import VolumeReader, read_geometry
from .writers import AtomicItkWriter, AtomicNibabelWriter, AtomicPictureWriter

__all__ = [
    "AtomicItkWriter",
    "AtomicNibabelWriter",
    "AtomicPictureWriter",
    "MaskReader",
    "PictureReader",
    "VolumeReader",
    "find_images",
    "find_pictures",
    "read_geometry",
]
