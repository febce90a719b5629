# SPDX-License-Identifier: Apache-2.0
"""A folder with one DICOM series as a volume; what its files say is held together before ITK reads the pixels."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.pixels import apply_rescale
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from monai_ext.data.files.guards import check_promise, damaged, require_file

__all__ = ["has_series", "read_series"]

PIXEL_DATA, ITEM, SEQUENCE_END = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
HEADER = 1 << 26  # bytes within which a header ends; from memory, a length that makes no sense reads no further


def has_series(folder: Path) -> bool:
    """Whether a folder holds DICOM files, told by their names and first bytes."""
    return any(_is_dicom(path) for path in _files(folder))


def read_series(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """The one series in a folder: voxels ``(X, Y, Z)`` as its rescaling gives them, and affine (RAS, mm).

    Pixels that are not compressed are read here, slice by slice; GDCM unpacks the others.

    Raises:
        ValueError: if there is none or several, or if a file is damaged or does not fit the others; it is named.
    """
    series: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for path in sorted(_files(Path(folder))):
        if _is_dicom(path) and (header := _slice_header(str(path))):
            series.setdefault(header.pop("series"), []).append((str(path), header))
    if len(series) != 1:
        found = "no DICOM series" if not series else f"{len(series)} DICOM series ({', '.join(series)})"
        raise ValueError(f"monai_ext: {folder}: {found}, expected exactly one. Give each series a folder of its own.")
    (slices,) = series.values()
    _check_alike(folder, slices)
    across, down = np.reshape(slices[0][1]["orientation"], (2, 3))
    slices.sort(key=lambda item: np.cross(across, down) @ item[1]["position"])
    positions = np.array([header["position"] for _, header in slices])
    _check_gaps(folder, positions)
    rows_apart, columns_apart = slices[0][1]["pixel spacing"]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * columns_apart, down * rows_apart
    # the step from slice to slice, which is not upright where the gantry was tilted
    depth = len(slices)
    upright = np.cross(across, down) * slices[0][1]["thickness"]
    affine[:3, 2] = (positions[-1] - positions[0]) / (depth - 1) if depth > 1 else upright
    affine[:3, 3] = positions[0]
    files = [file for file, _ in slices]
    packed = any(header["packed"] for _, header in slices)
    array = _unpacked(folder, files) if packed else np.stack([_pixels(file) for file in files], axis=-1)
    return array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _pixels(file: str) -> np.ndarray:
    """The pixels of a slice ``(X, Y)``."""
    try:
        with open(file, "rb") as stream:
            slice_ = dcmread(io.BytesIO(stream.read()), force=True)
        stored, allocated = int(slice_.BitsStored), int(slice_.BitsAllocated)
        if int(slice_.get("SamplesPerPixel", 1)) != 1 or int(slice_.HighBit) != stored - 1:
            raise ValueError("colour, or bits in an odd place")
        pixels = slice_.pixel_array
        if pixels.dtype.kind in "iu" and 0 < stored < allocated:  # bits above the stored ones may hold anything
            pixels = (pixels << (allocated - stored)) >> (allocated - stored)
        return np.asarray(apply_rescale(pixels, slice_), dtype=np.float32).T
    except Exception as e:  # a damaged file may raise anything
        raise damaged(file, e) from e


def _unpacked(folder: str, files: list[str]) -> np.ndarray:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as e:
        raise damaged(folder, e) from e
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise damaged(folder, "colour, expected one value per voxel")
    return sitk.GetArrayFromImage(image).T


def _files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_file() and not entry.name.startswith(".")]


def _is_dicom(path: Path) -> bool:
    """By the mark behind the preamble; of files without one, by the name, or else by what they hold."""
    with path.open("rb") as file:
        if file.read(132)[128:] == b"DICM":
            return True
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            start = b"" if path.suffix else file.read(1 << 16)
        return "SeriesInstanceUID" in dcmread(io.BytesIO(start), stop_before_pixels=True, force=True)
    except Exception:  # any other file may raise anything
        return False


def _check_alike(folder: str, slices: list[tuple[str, dict[str, Any]]]) -> None:
    first_file, first = slices[0]
    for file, header in slices:
        for name in ("rows and columns", "pixel spacing", "orientation"):
            if not np.allclose(header[name], first[name], atol=1e-3):
                raise ValueError(
                    f"monai_ext: {folder}: {Path(file).name} has {name} {header[name]}, but {Path(first_file).name} "
                    f"{first[name]}. The folder mixes series, or a file is damaged; export the series again."
                )
    rows, columns = first["rows and columns"]
    check_promise(folder, (rows, columns, len(slices)), 1, rows * columns * len(slices), packed=False)


def _slice_header(file: str) -> dict[str, Any]:
    """Series, size, direction and position of a slice, from its own file; empty for a DICOMDIR."""
    tags = ["DirectoryRecordSequence", "SeriesInstanceUID", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel"]
    tags += [
        "NumberOfFrames",
        "SpacingBetweenSlices",
        "SliceThickness",
        "PixelSpacing",
        "ImageOrientationPatient",
        "ImagePositionPatient",
    ]
    try:
        require_file(file)
        with open(file, "rb") as opened:
            start = opened.read(HEADER)
        if DeflatedExplicitVRLittleEndian.encode() in start:
            raise ValueError("deflated DICOM is not read")
        stream = io.BytesIO(start)
        tags_read = dcmread(stream, stop_before_pixels=True, specific_tags=tags, force=True)
        syntax = tags_read.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
        if "DirectoryRecordSequence" in tags_read:
            return {}
        size = [int(tags_read.Rows), int(tags_read.Columns)]
        frames = int(tags_read.get("NumberOfFrames") or 1)
        if frames != 1:
            raise ValueError("it has several frames, expected one file for each slice")
        needed = size[0] * size[1] * int(tags_read.get("SamplesPerPixel", 1)) * int(tags_read.BitsAllocated)
        stored = _pixel_bytes(stream, syntax, os.path.getsize(file))
        if not syntax.is_compressed and needed // 8 > stored:
            raise ValueError(f"{size[0]}x{size[1]} pixels promised, its {stored} bytes cannot hold them")
        found = {
            "packed": syntax.is_compressed,
            "thickness": float(tags_read.get("SpacingBetweenSlices") or tags_read.get("SliceThickness") or 1),
            "series": str(tags_read.SeriesInstanceUID),
            "rows and columns": size,
            "pixel spacing": [float(v) for v in tags_read.PixelSpacing],
            "orientation": [float(v) for v in tags_read.ImageOrientationPatient],
            "position": [float(v) for v in tags_read.ImagePositionPatient],
        }
    except Exception as e:  # a damaged file may raise anything
        raise e if str(e).startswith("monai_ext: ") else damaged(file, e) from e
    across, down = np.reshape(found["orientation"], (2, 3)) if len(found["orientation"]) == 6 else np.zeros((2, 3))
    lengths = [len(found["pixel spacing"]), len(found["position"])]
    square = np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-3)
    finite = bool(np.isfinite(found["position"]).all()) and min(found["pixel spacing"], default=0) > 0
    if lengths != [2, 3] or not square or not finite:
        raise damaged(file, "its pixel spacing, orientation or position makes no sense")
    return found


def _pixel_bytes(stream: io.BytesIO, syntax: UID, size: int) -> int:
    """Bytes of the pixel data at which ``stream`` stands, after a check that none of its parts is beyond the file."""
    order = "<" if syntax.is_little_endian else ">"
    start = stream.tell()
    if struct.unpack(f"{order}HH", stream.read(4)) != PIXEL_DATA:
        raise ValueError("no pixel data where its header ends")
    if not syntax.is_implicit_VR:
        stream.seek(4, os.SEEK_CUR)
    (length,) = struct.unpack(f"{order}I", stream.read(4))
    if not syntax.is_compressed:
        if stream.tell() + length > size:
            raise ValueError(f"{length} bytes of pixels promised, its {size - start} bytes cannot hold them")
        return int(length)
    while stream.tell() + 8 <= min(size, HEADER):
        group, element, length = struct.unpack("<HHI", stream.read(8))
        if (group, element) == SEQUENCE_END:
            break
        if (group, element) != ITEM or stream.tell() + length > size:
            raise ValueError("a part of its compressed pixels reaches beyond the file")
        stream.seek(length, os.SEEK_CUR)
    return size - start


def _check_gaps(folder: str, position: np.ndarray) -> None:
    """A series whose slices are not evenly spaced has lost one, or the scanner's gantry was tilted between them."""
    depth = len(position)
    if depth < 2:
        return
    steps = np.diff(position, axis=0)
    if np.linalg.norm(np.median(steps, axis=0)) < 1e-3:
        raise ValueError(f"monai_ext: {folder}: its slices lie at one place. The folder mixes series; export it again.")
    worst = np.abs(steps - np.median(steps, axis=0)).max()
    if worst > 0.1 * np.linalg.norm(np.median(steps, axis=0)):
        gap = int(np.abs(steps - np.median(steps, axis=0)).max(axis=1).argmax())
        raise ValueError(
            f"monai_ext: {folder}: the {depth} slices are not evenly spaced (between slices {gap + 1} and {gap + 2}: "
            f"{np.linalg.norm(steps[gap]):.3g} mm, elsewhere {np.linalg.norm(np.median(steps, axis=0)):.3g} mm). "
            "A slice is missing or the folder mixes series; export the series again."
        )
