# SPDX-License-Identifier: Apache-2.0
"""Volumes from every format the collection reads, with one set of checks and one kind of error."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from monai.utils import MetaKeys, SpaceKeys
from nibabel.filebasedimages import ImageFileError

from monai_ext.data.file_reader import FileReader, files_at

__all__ = ["VolumeReader", "find_images", "is_volume", "read_geometry"]

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
ARRAYS = re.compile(r"(?P<file>.+\.(npz|h5))::(?P<array>\w+)$")  # slices of an npz glob, or an array of an h5 file
SYNAPSE_ARRAYS = re.compile(r"case\d{4}(_slice|\.npy\.h5)")  # scaled by TransUNet; other files keep what they hold
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class VolumeReader(FileReader):
    """Read one volume as ``(X, Y, Z)`` with its affine (RAS, mm); for ``LoadImaged(reader=VolumeReader)``.

    Reads NIfTI (nibabel), NRRD and MetaImage, a folder with one DICOM series (SimpleITK), and preprocessed arrays as
    TransUNet made them popular, named as ``FILE::ARRAY``: ``test_vol_h5/case0008.npy.h5::image``, or a pattern over the
    slices of a case, ``train_npz/case0005_slice*.npz::label``. These carry no geometry: voxels are taken as 1 mm and
    axes as stored. Images of Synapse, which TransUNet scaled to [0, 1] from [-125, 275] HU, are given back in HU.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is damaged, no volume of one channel, or has no usable geometry; the file is named.
    """

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        if len(img) != 1:
            raise ValueError(f"monai_ext: one file per volume expected, got {len(img)}: {', '.join(map(str, img))}.")
        array, affine = _read(str(img[0]))
        meta = {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        }
        return array, meta


def read_geometry(path: str) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a volume from its header, without reading its voxels.

    A compressed NIfTI that was cut off is found out too: the length that gzip notes at a file's end must be the
    header's. Errors are those of ``VolumeReader``.
    """
    if match := ARRAYS.match(path):
        return _read_arrays(match["file"], match["array"], shape_only=True), LPS_TO_RAS.copy()
    _require(path)
    if path.lower().endswith(NIFTI):
        image = _open_nifti(path)
        if path.lower().endswith(".gz"):
            _check_gzip_length(path, image)
        return _volume_shape(path, image.shape), _checked_affine(path, image.affine)
    if Path(path).is_dir():
        array, affine = _read(path)
        return array.shape, affine
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as e:
        raise _unreadable(path, e) from e
    return _volume_shape(path, reader.GetSize()), _itk_affine(path, reader)


def is_volume(path: str | os.PathLike) -> bool:
    """Whether a file name is that of a volume in one file."""
    return str(path).lower().endswith(NIFTI + ITK)


def find_images(path: str | os.PathLike) -> list[dict[str, str]]:
    """The volumes under ``path`` as ``[{"image": ...}]``: one file, a folder of files, or DICOM series folders.

    Raises:
        FileNotFoundError: if there is no such path, or no volume in it.
    """
    if files := files_at(path, is_volume):
        return files
    root = Path(path).expanduser()
    series = [d for d in [root, *sorted(p for p in root.iterdir() if p.is_dir())] if _series_ids(d)]
    if not series:
        raise FileNotFoundError(
            f"monai_ext: {root}: no volume found. Expected files ending in {', '.join(NIFTI + ITK)}, or DICOM series."
        )
    return [{"image": str(d)} for d in series]


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    if match := ARRAYS.match(path):
        return _read_arrays(match["file"], match["array"]), LPS_TO_RAS.copy()
    _require(path)
    if path.lower().endswith(NIFTI):
        return _read_nifti(path)
    try:
        image = _read_series(path) if Path(path).is_dir() else sitk.ReadImage(path)
    except RuntimeError as e:
        raise _unreadable(path, e) from e
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"monai_ext: {path}: {image.GetNumberOfComponentsPerPixel()} values per voxel, expected 1 (no colour)."
        )
    array = sitk.GetArrayFromImage(image).T
    return array.reshape(_volume_shape(path, array.shape)), _itk_affine(path, image)


def _read_nifti(path: str) -> tuple[np.ndarray, np.ndarray]:
    image = _open_nifti(path)
    shape = _volume_shape(path, image.shape)
    affine = _checked_affine(path, image.affine)
    try:
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as e:
        raise _unreadable(path, e) from e
    if array.dtype.names:
        raise ValueError(f"monai_ext: {path}: colour values ({array.dtype}), expected one value per voxel.")
    return array.reshape(shape), affine


def _open_nifti(path: str) -> Any:
    try:
        return nibabel.load(path)
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as e:
        raise _unreadable(path, e) from e


def _check_gzip_length(path: str, image: Any) -> None:
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        noted = int.from_bytes(file.read(4), "little")
    needed = int(image.dataobj.offset) + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    if noted != needed % 2**32:  # cut off, or something follows the voxels: reading tells
        try:
            image.get_fdata(caching="unchanged", dtype=np.float32)
        except (OSError, EOFError, ValueError, zlib.error) as e:
            raise _unreadable(path, e) from e


def _read_series(folder: str) -> sitk.Image:
    ids = _series_ids(Path(folder))
    if len(ids) != 1:
        found = "no DICOM series" if not ids else f"{len(ids)} DICOM series ({', '.join(ids)})"
        raise ValueError(f"monai_ext: {folder}: {found}, expected exactly one. Give each series a folder of its own.")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder, ids[0]))
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    _check_slice_gaps(folder, reader, image)
    return image


def _check_slice_gaps(folder: str, reader: sitk.ImageSeriesReader, image: sitk.Image) -> None:
    """A series whose slices are not evenly spaced has lost one, or the scanner's gantry was tilted between them."""
    depth = image.GetSize()[2]
    if depth < 3:
        return
    position = np.array([[float(v) for v in reader.GetMetaData(i, "0020|0032").split("\\")] for i in range(depth)])
    steps = np.diff(position, axis=0)
    worst = np.abs(steps - np.median(steps, axis=0)).max()
    if worst > 0.1 * np.linalg.norm(np.median(steps, axis=0)):
        gap = int(np.abs(steps - np.median(steps, axis=0)).max(axis=1).argmax())
        raise ValueError(
            f"monai_ext: {folder}: the {depth} slices are not evenly spaced (between slices {gap + 1} and {gap + 2}: "
            f"{np.linalg.norm(steps[gap]):.3g} mm, elsewhere {np.linalg.norm(np.median(steps, axis=0)):.3g} mm). "
            "A slice is missing or the folder mixes series; export the series again."
        )


def _series_ids(folder: Path) -> tuple[str, ...]:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # GDCM writes a line for every file that is no DICOM
    return tuple(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


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

    _require(str(path))
    try:
        if path.suffix == ".h5":
            with h5py.File(path, "r") as h5:
                return h5[name].shape if shape_only else h5[name][()]
        with np.load(path, allow_pickle=False) as npz:
            return npz[name].shape if shape_only else npz[name]
    except (OSError, KeyError, ValueError, zlib.error, EOFError) as e:
        raise _unreadable(str(path), e) from e


def _by_numbers(path: Path) -> list[Any]:
    """Slice 10 comes behind slice 9, whether or not numbers are padded with zeros."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _volume_shape(path: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The three sides of a volume; further axes of length 1 are dropped."""
    kept = tuple(int(n) for n in shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if len(kept) != 3:
        raise ValueError(f"monai_ext: {path}: {'x'.join(map(str, shape))}, expected a volume of three dimensions.")
    return kept


def _checked_affine(path: str, affine: np.ndarray | None) -> np.ndarray:
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise ValueError(
            f"monai_ext: {path}: its geometry (affine) is missing or singular, so left and right are unknown. "
            "Convert it again from the original DICOM series."
        )
    return np.asarray(affine, dtype=np.float64)


def _itk_affine(path: str, image: Any) -> np.ndarray:
    """ITK keeps direction, spacing and origin in LPS; ours is RAS as nibabel's."""
    affine = np.eye(4)
    if image.GetDimension() >= 3:
        direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
        affine[:3, :3] = direction * np.array(image.GetSpacing())[:3]
        affine[:3, 3] = image.GetOrigin()[:3]
    return _checked_affine(path, LPS_TO_RAS @ affine)


def _require(path: str) -> None:
    if not Path(path).exists():
        raise FileNotFoundError(f"monai_ext: {path}: no such file or folder.")


def _unreadable(path: str, reason: object) -> ValueError:
    first_line = str(reason).strip().splitlines()[-1] if str(reason).strip() else type(reason).__name__
    return ValueError(
        f"monai_ext: {path}: cannot be read ({first_line}). The file is damaged or cut off; get it again."
    )
