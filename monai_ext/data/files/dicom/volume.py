# SPDX-License-Identifier: Apache-2.0
"""A DICOM series as a volume."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_ext.data.files.affines import spacing_of, voxel_ml
from monai_ext.data.files.dicom.finding import LEFT_OUT, Series, find_series, select_series, tell
from monai_ext.data.files.dicom.frames import Frame, frames_of
from monai_ext.data.files.dicom.geometry import affine_of, one_stack, sorted_frames, tilt_of
from monai_ext.data.files.dicom.pixels import read_frames
from monai_ext.data.files.guards import check_promise

__all__ = ["Volume", "read_series", "read_volume", "series_geometry"]

TILT = 0.5  # degrees, from which on it is said


@dataclass(frozen=True)
class Volume:
    """A series as a volume: ``array`` ``(columns, rows, slices)``, ``affine`` to RAS in mm, and its frames in order."""

    array: np.ndarray
    affine: np.ndarray
    frames: list[Frame]


def read_volume(series: Series) -> Volume:
    """Read a series in single files or in one, compressed or not.

    Raises:
        ValueError: if the images make no regular volume, or cannot be decoded; the reason is given.
    """
    frames = _volume_frames(series)
    return Volume(read_frames(frames).transpose(2, 1, 0), affine_of(frames), frames)


def read_series(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """The one series in a folder: voxels ``(X, Y, Z)`` in float32 as its rescaling gives them, and affine (RAS, mm).

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several, or one is refused; the reason is given.
    """
    volume = read_volume(one_series(folder))
    return volume.array, volume.affine


def series_geometry(folder: str) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of the one series in a folder, from its headers. Errors are those of ``read_series``."""
    frames = _volume_frames(one_series(folder))
    rows, columns = frames[0].size
    return (columns, rows, len(frames)), affine_of(frames)


def one_series(folder: str | os.PathLike) -> Series:
    """The series in a folder, if it is the only one there. Errors are those of ``read_series``."""
    return select_series(find_series(Path(folder), below=False), remedy="give each series a folder of its own")


def _volume_frames(series: Series) -> list[Frame]:
    try:
        frames, left = one_stack(frames_of(series.image_objects), LEFT_OUT)
        frames = sorted_frames(frames)
        _check_voxel(affine_of(frames))
    except ValueError as e:
        if str(e).startswith("monai_ext: "):
            raise
        raise ValueError(f"monai_ext: {series.folder}: {series}: {e}") from e
    for reason, images in left.items():
        numbers = ", ".join(frame.number for frame in images)
        tell(f"monai_ext: {series.folder}: {series}: left out image(s) {numbers}: {reason}.")
    if (tilt := tilt_of(frames)) > TILT:
        tell(
            f"monai_ext: {series.folder}: {series}: the gantry was tilted by {tilt:.3g} degrees, so the volume is "
            "sheared. NIfTI holds its labels right, by the sform; programs on ITK (3D Slicer, ITK-SNAP) refuse those."
        )
    check_promise(series.folder, (*frames[0].size, len(frames)), 1, 1 << 62, packed=False)
    return frames


def _check_voxel(affine: np.ndarray) -> None:
    spacing = spacing_of(affine)
    # a micrometre to a metre, and slices that do not slide along themselves: no scanner's are beyond
    if spacing.min() < 1e-3 or spacing.max() > 1e3 or 1000 * voxel_ml(affine) < 1e-3 * spacing.prod():
        sides = "x".join(f"{side:.3g}" for side in spacing)
        raise ValueError(f"voxels of {sides} mm are of no scanner. Export the series again from its archive.")
