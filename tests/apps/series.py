# SPDX-License-Identifier: Apache-2.0
"""DICOM series as scanners and archives send them, made from the plain one of ``tests.dicom``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage, MRImageStorage, generate_uid


def edit(folder: Path, change: Callable[[Dataset], None]) -> None:
    """Change every file of a folder."""
    for path in sorted(folder.glob("*.dcm")):
        ds = pydicom.dcmread(path)
        change(ds)
        ds.save_as(path)


def compress(folder: Path, syntax: str) -> None:
    edit(folder, lambda ds: ds.compress(syntax, generate_instance_uid=False))


def make_mr(folder: Path) -> None:
    """The same pixels as MR; brightness has no offset."""

    def change(ds: Dataset) -> None:
        ds.Modality, ds.SOPClassUID = "MR", MRImageStorage
        ds.file_meta.MediaStorageSOPClassUID = MRImageStorage

    edit(folder, change)


def tilt(folder: Path, degrees: float) -> None:
    """Shift each slice along its columns against the one before, as a tilted gantry does."""
    files = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    first, second = (np.array(ds.ImagePositionPatient, dtype=float) for ds in files[:2])
    shift = np.tan(np.deg2rad(degrees)) * np.linalg.norm(second - first)

    def change(ds: Dataset) -> None:
        down = np.array(ds.ImageOrientationPatient[3:], dtype=float)
        moved = np.array(ds.ImagePositionPatient, dtype=float) + down * shift * (ds.InstanceNumber - 1)
        ds.ImagePositionPatient = [float(f"{v:.10g}") for v in moved]

    edit(folder, change)


def make_multi_frame(folder: Path, shuffle: bool = True) -> None:
    """All images in one enhanced CT object, stored in another order than they lie."""
    paths = sorted(folder.glob("*.dcm"))
    parts = [pydicom.dcmread(path) for path in paths]
    order = np.random.default_rng(0).permutation(len(parts)) if shuffle else np.arange(len(parts))
    ds = parts[0].copy()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    shared, orientation, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, ds.SliceThickness
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = ds.RescaleSlope, ds.RescaleIntercept, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [values]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number in order:
        group, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = parts[number].ImagePositionPatient
        content.DimensionIndexValues = [int(number) + 1]
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.NumberOfFrames = len(parts)
    ds.PixelData = b"".join(parts[number].PixelData for number in order)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(ds, name)
    for path in paths:
        path.unlink()
    ds.save_as(folder / "enhanced.dcm", enforce_file_format=True)
