# SPDX-License-Identifier: Apache-2.0
"""Volumes from every format the collection reads, with one set of checks and one kind of error."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.utils import MetaKeys, SpaceKeys

from monai_ext.data.files.affines import flip_lps, from_itk, largest_shift, spacing_of
from monai_ext.data.files.dicom import read_series, series_geometry
from monai_ext.data.files.file_reader import FileReader
from monai_ext.data.files.guards import check_promise, damaged, require_file, unusable
from monai_ext.data.files.memory_order import c_ordered
from monai_ext.data.files.nifti import nifti_geometry, read_nifti
from monai_ext.data.files.text_headers import read_text_header
from monai_ext.data.files.volume_checks import assumed_affine, check_count, checked_affine, volume_shape
from monai_ext.data.files.volume_finder import ITK, NIFTI, channel_of, other_volume

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["VolumeReader", "channel_files", "check_channels", "read_geometry"]

ARRAYS = re.compile(r"(?P<file>.+\.(npz|h5))::(?P<array>\w+)$")  # slices of an npz glob, or an array of an h5 file
SYNAPSE_ARRAYS = re.compile(r"case\d{4}(_slice|\.npy\.h5)")  # scaled by TransUNet; other files keep what they hold


class VolumeReader(FileReader):
    """Read one volume as ``(X, Y, Z)`` with its affine (RAS, mm); for ``LoadImaged(reader=VolumeReader)``.

    Reads NIfTI (nibabel), versions 1 and 2, plain or packed with gzip whatever its name says; NRRD, 3D Slicer's
    ``.seg.nrrd`` of one layer among them, and MetaImage, raw or packed with gzip, in one file or with the voxels in
    files beside the header; a folder with one DICOM series (pydicom); and preprocessed arrays as
    TransUNet made them popular, named as ``FILE::ARRAY``: ``test_vol_h5/case0008.npy.h5::image``, or a pattern over the
    slices of a case, ``train_npz/case0005_slice*.npz::label``. These carry no geometry: voxels are taken as 1 mm and
    axes as stored. Images of Synapse, which TransUNet scaled to [0, 1] from [-125, 275] HU, are given back in HU.

    Several channels, where they have names, come as ``(C, X, Y, Z)``: of as many files, in the order of the numbers
    that nnU-Net gives them (``case_0000.nii.gz``), else as they are given, all on one grid; or of one file, NIfTI of
    four dimensions or NRRD and MetaImage with as many values per voxel.

    Args:
        channel_names: what the channels are; with one name or none a volume has one channel.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is damaged, has other channels (which is missing is named) or a time axis, or has no usable
            geometry, or the channels' grids differ; the file is named.
    """

    def __init__(self, channel_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.channel_names = tuple(channel_names)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        files = channel_files([str(file) for file in img], self.channel_names)
        if len(files) == 1:
            array, affine = _read(files[0], self.channel_names)
        else:
            check_channels(files, self.channel_names)
            parts, (affine, *_) = zip(*(_read(file) for file in files))
            array = np.stack(parts)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)  # PyTorch knows this machine's order only
        meta = {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape[-3:]),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0 if array.ndim == 4 else float("nan"),
        }
        return c_ordered(array), meta


def read_geometry(path: str, channel_names: Sequence[str] = ()) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape ``(X, Y, Z)`` and affine of a volume from its header, without reading its voxels.

    A compressed NIfTI that was cut off is found out too: the length that gzip notes at a file's end must be the
    header's. Errors are those of ``VolumeReader``.

    Args:
        path: the file.
        channel_names: what its channels are, if it is to have several.
    """
    if match := ARRAYS.match(path):
        return _read_arrays(match["file"], match["array"], shape_only=True), flip_lps(np.eye(4))
    require_file(path, folder=True)
    if Path(path).is_dir():
        check_count(path, 1, channel_names)
        shape, affine = series_geometry(path)
        return shape, checked_affine(path, affine)
    if path.lower().endswith(NIFTI):
        return nifti_geometry(path, channel_names)
    reader, oriented = _itk_header(path, channel_names)
    return _itk_shape(path, reader, channel_names)[:3], _itk_affine(path, reader, oriented)


def channel_files(files: Sequence[str], channel_names: Sequence[str]) -> list[str]:
    """The files of an image in the order of its channels: that of nnU-Net's numbers where all have them.

    Raises:
        ValueError: if there are too few or too many; those that are missing, or too many, are named.
    """
    expected = max(1, len(channel_names))
    numbers = [channel_of(file)[1] for file in files]
    if len(files) == 1:
        return list(files)  # it may hold them all: its header tells
    numbered = [number for number in numbers if number is not None]
    if len(numbered) == len(files):
        files = [file for _, file in sorted(zip(numbered, files))]
    present = sorted(numbered) if len(numbered) == len(files) else list(range(len(files)))
    if twice := [n for n in present if present.count(n) > 1]:
        raise ValueError(f"monai_ext: {files[0]}: channel {twice[0]:04d} is there {present.count(twice[0])} times.")
    missing = [f"{n:04d} ({channel_names[n]})" for n in range(len(channel_names)) if n not in present]
    surplus = [f"{n:04d}" for n in present if n >= expected]
    if not missing and not surplus:
        return list(files)
    told = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(surplus)} too many"] * bool(surplus)
    names = f" ({', '.join(channel_names)})" if expected > 1 else ""
    raise ValueError(
        f"monai_ext: {files[0]}: {len(files)} channels, expected {expected}{names}: {' and '.join(told)}. Give each "
        "channel's file, and no other."
    )


def check_channels(files: Sequence[str], channel_names: Sequence[str] = ()) -> tuple[tuple[int, ...], np.ndarray]:
    """The one grid of an image's files, shape and affine, from their headers.

    Raises:
        ValueError: if one lies on another grid; says which, and by how much.
    """
    if len(files) == 1:
        return read_geometry(files[0], channel_names)
    shape, affine = read_geometry(files[0])
    for file in files[1:]:
        other, placed = read_geometry(file)
        if other != shape:
            raise ValueError(
                f"monai_ext: {file}: {'x'.join(map(str, other))} voxels, but {Path(files[0]).name} has "
                f"{'x'.join(map(str, shape))}. Channels of one image lie on one grid: resample it, or leave the "
                "case out."
            )
        # a shift of a tenth of a voxel anywhere in the volume is beyond rounding
        shift = largest_shift(affine, placed, shape)
        if shift > 0.1 * spacing_of(affine).min():
            raise ValueError(
                f"monai_ext: {file}: its affine places voxels up to {shift:.3g} mm away from those of "
                f"{Path(files[0]).name}. Channels of one image lie on one grid: resample it, or leave the case out."
            )
    return shape, affine


def _read(path: str, channel_names: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """``(X, Y, Z)``, or ``(C, X, Y, Z)`` where several channels are named."""
    if match := ARRAYS.match(path):
        return _read_arrays(match["file"], match["array"]), flip_lps(np.eye(4))
    require_file(path, folder=True)
    if Path(path).is_dir():
        check_count(path, 1, channel_names)
        array, affine = read_series(path)
        return array, checked_affine(path, affine)
    if path.lower().endswith(NIFTI):
        return read_nifti(path, channel_names)
    import SimpleITK as sitk

    reader, oriented = _itk_header(path, channel_names)
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as e:
        raise damaged(path, e) from e
    shape = _itk_shape(path, image, channel_names)
    array = sitk.GetArrayFromImage(image).T
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = array.reshape((shape[-1], *shape[:3]))  # the values of a voxel come first
    else:
        array = np.moveaxis(array.reshape(shape), -1, 0) if len(shape) == 4 else array.reshape(shape)
    return array, _itk_affine(path, image, oriented)


def _itk_shape(path: str, image: Any, channel_names: Sequence[str]) -> tuple[int, ...]:
    """The sides of a volume, and its channels where it has several."""
    values = image.GetNumberOfComponents() if hasattr(image, "GetNumberOfComponents") else None
    values = image.GetNumberOfComponentsPerPixel() if values is None else values
    return volume_shape(path, (*image.GetSize(), *([values] if values > 1 else [])), channel_names)


def _itk_header(path: str, channel_names: Sequence[str] = ()) -> tuple[sitk.ImageFileReader, bool]:
    """A reader of an NRRD or MetaImage whose header was checked, and whether this gives an orientation."""
    if not path.lower().endswith(ITK):
        if other := other_volume(path):
            raise unusable(path, f"is {other[0]}, expected {', '.join(NIFTI + ITK)}", other[1])
        raise ValueError(
            f"monai_ext: {path}: no volume by its name, expected {', '.join(NIFTI + ITK)}. For a DICOM series give its "
            "folder."
        )
    import SimpleITK as sitk

    try:
        header = read_text_header(path, len(channel_names) > 1)
        stored = min(map(os.path.getsize, header.voxels)) * len(header.voxels)
        check_promise(path, header.shape, header.itemsize, stored, header.packed)
        reader = sitk.ImageFileReader()
        reader.SetFileName(path)
        reader.SetImageIO("NrrdImageIO" if path.lower().endswith((".nrrd", ".nhdr")) else "MetaImageIO")
        reader.ReadImageInformation()
    except (OSError, RuntimeError, ValueError) as e:
        raise e if str(e).startswith("monai_ext: ") else damaged(path, e) from e
    return reader, header.oriented


def _read_arrays(file: str, name: str, shape_only: bool = False) -> Any:
    """One file of ``(Z, X, Y)``, or a pattern over files of one ``(X, Y)`` slice each; returned as ``(X, Y, Z)``."""
    path = Path(file)
    files = sorted(path.parent.glob(path.name), key=_by_numbers) if "*" in path.name else [path]
    if not files:
        raise FileNotFoundError(f"monai_ext: {file}: no such slices.")
    if shape_only:
        shape = _stored_array(files[0], name, shape_only=True)
        return (*shape[1:], shape[0]) if len(shape) == 3 and len(files) == 1 else (*shape, len(files))
    arrays = [_stored_array(path, name) for path in files]
    for path, plane in zip(files, arrays):
        if plane.shape != arrays[0].shape:
            raise ValueError(f"monai_ext: {path}: {plane.shape}, but {files[0].name} has {arrays[0].shape}.")
    array = np.moveaxis(arrays[0], 0, -1) if arrays[0].ndim == 3 and len(files) == 1 else np.stack(arrays, axis=-1)
    scaled = name == "image" and SYNAPSE_ARRAYS.match(path.name)
    return array * np.float32(400) - np.float32(125) if scaled else array


def _stored_array(path: Path, name: str, shape_only: bool = False) -> Any:
    """An array of an npz or an h5 file, or its shape."""
    import h5py

    require_file(path)
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as h5:
                array = h5[name]
                _check_numbers(path, array.dtype)
                check_promise(path, array.shape, array.dtype.itemsize, array.id.get_storage_size(), bool(array.chunks))
                return array.shape if shape_only else array[()]
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            info = archive.getinfo(f"{name}.npy")
        _check_numbers(path, dtype)
        check_promise(path, shape, dtype.itemsize, info.file_size, packed=False)
        check_promise(path, shape, dtype.itemsize, os.path.getsize(path), info.compress_type != zipfile.ZIP_STORED)
        with np.load(path, allow_pickle=False) as npz:
            return shape if shape_only else npz[name]
    except Exception as e:  # a damaged file may raise anything
        raise e if str(e).startswith("monai_ext: ") else damaged(path, e) from e


def _check_numbers(path: Path, dtype: np.dtype) -> None:
    if dtype.kind not in "iufb":
        raise ValueError(f"monai_ext: {path}: values of type {dtype}, expected numbers.")


def _by_numbers(path: Path) -> list[Any]:
    """Slice 10 comes behind slice 9, whether or not numbers are padded with zeros."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _itk_affine(path: str, image: Any, oriented: bool) -> np.ndarray:
    """ITK keeps direction, spacing and origin in LPS; ours is RAS as nibabel's."""
    if not oriented:
        return assumed_affine(path, np.array(image.GetSpacing())[:3])
    return checked_affine(path, from_itk(image))
