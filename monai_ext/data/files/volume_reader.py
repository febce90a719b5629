# SPDX-License-Identifier: Apache-2.0
"""Volumes from every format the collection reads, with one set of checks and one kind of error."""

from __future__ import annotations

import io
import logging
import os
import re
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
from isal import igzip
from monai.utils import MetaKeys, SpaceKeys
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from monai_ext.data.files.affines import flip_lps, from_itk, largest_shift, spacing_of
from monai_ext.data.files.case_finder import find_cases
from monai_ext.data.files.dicom import holds_series, read_series, series_geometry
from monai_ext.data.files.file_reader import FileReader
from monai_ext.data.files.guards import check_promise, damaged, is_note, require_file, unusable
from monai_ext.data.files.memory_order import c_ordered
from monai_ext.data.files.text_headers import read_text_header

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = [
    "VolumeReader",
    "channel_files",
    "channel_of",
    "check_channels",
    "find_images",
    "is_other_volume",
    "is_volume",
    "read_geometry",
]

logger = logging.getLogger(__name__)
NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
ARRAYS = re.compile(r"(?P<file>.+\.(npz|h5))::(?P<array>\w+)$")  # slices of an npz glob, or an array of an h5 file
SYNAPSE_ARRAYS = re.compile(r"case\d{4}(_slice|\.npy\.h5)")  # scaled by TransUNet; other files keep what they hold
TRAILING = 1 << 24  # bytes behind the voxels that are read to reach the checksum of an archive
GZIP = b"\x1f\x8b"
MAGICS = {348: (344, b"n+1\0", nibabel.Nifti1Image), 540: (4, b"n+2\0", nibabel.Nifti2Image)}  # by the header's size
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # nnU-Net's names
ONE_VALUE = "Save the one that is meant as a file of its own."
TIME_SERIES = 2001  # intent code of NIfTI
UNITS = {1: "metres", 3: "micrometres"}  # xyzt_units of NIfTI that are not mm
PAIR = (".hdr", ".img", ".img.gz")
ARCHIVES = (".zip", ".tar", ".gz", ".bz2", ".xz", ".zst")
# endings of other volumes, what they are, and how to make one of ours of them
OTHERS = {
    (".mgz", ".mgh"): ("a volume of FreeSurfer", "Convert it with mri_convert FILE.mgz FILE.nii.gz."),
    PAIR: (
        "one half of a NIfTI or Analyze pair",
        "Save the pair as one file, FILE.nii.gz (fslchfiletype NIFTI_GZ, ITK-SNAP and 3D Slicer do so).",
    ),
    (".mnc", ".mnc2"): ("a volume in MINC", "Convert it with mnc2nii FILE.mnc FILE.nii."),
    ARCHIVES: ("an archive", "Unpack it first."),
}


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
        _check_count(path, 1, channel_names)
        shape, affine = series_geometry(path)
        return shape, _checked_affine(path, affine)
    if path.lower().endswith(NIFTI):
        image = _nifti_header(path, channel_names)
        if _starts_with(path, GZIP):
            _check_gzip_length(path, image)
        return _volume_shape(path, image.shape, channel_names)[:3], _nifti_affine(path, image)
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


def channel_of(file: str | os.PathLike) -> tuple[str, int | None]:
    """The case and the number of the channel in a file's name as nnU-Net has it, and None for another name.

    Examples::

        >>> channel_of("imagesTs/a.1_0003.nii.gz")
        ('a.1', 3)
    """
    name = Path(file).name
    stem = name[: -len(ending)] if (ending := _ending(name)) else name
    match = CHANNEL.fullmatch(stem)
    return (match["case"], int(match["channel"])) if match else (stem, None)


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


def _ending(name: str) -> str:
    return next((end for end in sorted(NIFTI + ITK, key=len, reverse=True) if name.lower().endswith(end)), "")


def _check_count(path: str, found: int, channel_names: Sequence[str]) -> None:
    """A file must have as many channels as are named."""
    expected = max(1, len(channel_names))
    if found == expected:
        return
    if expected == 1:
        raise ValueError(f"monai_ext: {path}: {found} values per voxel, expected 1 (no colour, no series). {ONE_VALUE}")
    names = ", ".join(channel_names)
    if found < expected:
        here = channel_of(path)[1] if found == 1 else None
        missing = [name for i, name in enumerate(channel_names) if (i != here if here is not None else i >= found)]
        told = f"{', '.join(missing)} missing"
    else:
        told = f"{found - expected} too many (is it a time series?)"
    raise ValueError(
        f"monai_ext: {path}: {found} channel{'s' * (found > 1)}, expected {expected} ({names}): {told}. Give each "
        "channel as a file of its own, or all in one file."
    )


def is_volume(path: str | os.PathLike) -> bool:
    """Whether a file name is that of a volume in one file."""
    return str(path).lower().endswith(NIFTI + ITK) and not is_note(path)


def is_other_volume(path: str | os.PathLike) -> bool:
    """Whether a file name is that of a volume which has to be converted first; of a pair, the header's name is."""
    name = str(path).lower()
    if is_volume(path) or is_note(path) or name.endswith(".img"):
        return False
    if name.endswith(ARCHIVES):
        return Path(name).stem.endswith(NIFTI + ITK)
    return _other(name) is not None


def _other(path: str) -> tuple[str, str] | None:
    return next((told for endings, told in OTHERS.items() if path.lower().endswith(endings)), None)


def find_images(path: str | os.PathLike, channel_names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One volume, or all below a folder: files, and folders with a DICOM series; labels of ours are passed over.

    Of several channels, files that nnU-Net's naming puts together (``case_0000.nii.gz``, ``case_0001.nii.gz``, ...) are
    one case; ``path`` may be one of them, or files with commas between. Volumes in formats that are not read are cases
    too: reading them ends with the way to convert them.

    Args:
        path: a file or a folder.
        channel_names: what the channels of a volume are; with one name or none each file is a volume.

    Returns:
        cases with ``image``, the path, or a tuple of paths in the order of the channels, and ``case_id``, the name of
        its label: see ``data.files.finding.find_cases``.

    Raises:
        FileNotFoundError: if there is no such path, or no volume in it.
        ValueError: if two would have one name.

    Examples::

        >>> find_images("imagesTs", ["FLAIR", "T1w"])
        [{'image': ('imagesTs/a_0000.nii.gz', 'imagesTs/a_0001.nii.gz'), 'case_id': 'a'}]
    """
    if len(channel_names) > 1 and (given := _files_between_commas(path)):
        return [{"image": given, "case_id": channel_of(given[0])[0]}]
    if cases := find_cases(path, lambda name: is_volume(name) or is_other_volume(name), holds_series):
        return _with_channels(path, cases) if len(channel_names) > 1 else cases
    raise FileNotFoundError(
        f"monai_ext: {path}: no volume found. Expected files ending in {', '.join(NIFTI + ITK)}, or DICOM series."
    )


def _files_between_commas(path: str | os.PathLike) -> tuple[str, ...]:
    """The files of one image; none where the text is a path itself."""
    text = os.fspath(path)
    if "," not in text or os.path.exists(os.path.expanduser(text)):
        return ()
    files = tuple(os.path.expanduser(part.strip()) for part in text.split(",") if part.strip())
    for file in files:
        require_file(file)
    return files


def _with_channels(path: str | os.PathLike, cases: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Files of one case put together; one file of a case stands for all beside it."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for case in cases:
        name, number = channel_of(case["image"])
        found.setdefault((os.path.dirname(case["image"]), name if number is not None else case["image"]), []).append(
            case
        )
    result: list[dict[str, Any]] = []
    for (folder, name), parts in found.items():
        files = sorted(part["image"] for part in parts)
        numbered = channel_of(files[0])[1] is not None
        if numbered and os.path.isfile(os.path.expanduser(os.fspath(path))):
            beside = sorted(os.path.join(folder, file) for file in os.listdir(folder or "."))
            ending = _ending(files[0])
            files = [f for f in beside if is_volume(f) and f.endswith(ending) and channel_of(f)[0] == name]
            files = [f for f in files if channel_of(f)[1] is not None]
        # several channels of one case, and a file that has them all, whatever its name
        together = numbered and (len(files) > 1 or channel_of(files[0])[1] == 0)
        case_id = parts[0]["case_id"]
        if together:
            result.append({"image": tuple(files), "case_id": CHANNEL.sub(r"\g<case>", case_id)})
        else:
            result += [{"image": part["image"], "case_id": part["case_id"]} for part in parts]
    names = [case["case_id"] for case in result]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"monai_ext: {path}: several images would have one label file, {twice[0]}. Give them one by one."
        )
    return result


def _read(path: str, channel_names: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """``(X, Y, Z)``, or ``(C, X, Y, Z)`` where several channels are named."""
    if match := ARRAYS.match(path):
        return _read_arrays(match["file"], match["array"]), flip_lps(np.eye(4))
    require_file(path, folder=True)
    if Path(path).is_dir():
        _check_count(path, 1, channel_names)
        array, affine = read_series(path)
        return array, _checked_affine(path, affine)
    if path.lower().endswith(NIFTI):
        return _read_nifti(path, channel_names)
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
    return _volume_shape(path, (*image.GetSize(), *([values] if values > 1 else [])), channel_names)


def _itk_header(path: str, channel_names: Sequence[str] = ()) -> tuple[sitk.ImageFileReader, bool]:
    """A reader of an NRRD or MetaImage whose header was checked, and whether this gives an orientation."""
    if not path.lower().endswith(ITK):
        if other := _other(path):
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


def _read_nifti(path: str, channel_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    image = _nifti_header(path, channel_names)
    shape = _volume_shape(path, image.shape, channel_names)
    affine = _nifti_affine(path, image)
    try:
        if _starts_with(path, GZIP):
            array = np.asanyarray(type(image).from_bytes(_unpacked(path, _nifti_bytes(image))).dataobj)
        else:
            with open(path, "rb") as file:
                array = np.asanyarray(type(image).from_stream(file).dataobj)
    except Exception as e:  # a damaged file may raise anything
        raise damaged(path, e) from e
    array = array.reshape(shape)
    return np.moveaxis(array, -1, 0) if len(shape) == 4 else array, affine


def _starts_with(path: str, magic: bytes) -> bool:
    """What a file is, which its name need not say: browsers and mail programs pack and unpack in passing."""
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _nifti_header(path: str, channel_names: Sequence[str] = ()) -> Any:
    """A NIfTI image whose voxels are not read yet, but are there as far as sizes tell."""
    packed = _starts_with(path, GZIP)
    try:
        with igzip.open(path) if packed else open(path, "rb") as file:
            kind = _nifti_kind(path, file.read(352))
            file.seek(0)
            image: Any = kind.from_stream(file)
        dtype, shape, bytes_before = image.get_data_dtype(), image.shape, int(image.dataobj.offset)
    except Exception as e:  # a damaged header may raise anything
        raise e if str(e).startswith("monai_ext: ") else damaged(path, e) from e
    if dtype.names:
        raise ValueError(f"monai_ext: {path}: colour values ({dtype}), expected one value per voxel.")
    if dtype.kind not in "iuf":
        raise ValueError(f"monai_ext: {path}: values of type {dtype}, expected whole or real numbers.")
    if len(channel_names) > 1:
        _refuse_series(path, image)
    _volume_shape(path, shape, channel_names)
    stored = os.path.getsize(path) - (0 if packed else bytes_before)
    check_promise(path, shape, dtype.itemsize, stored, packed)
    return image


def _refuse_series(path: str, image: Any) -> None:
    """Points in time are no channels; what a header without an intent or a step in time holds, nobody can tell."""
    header, count = image.header, int(np.prod(image.shape[3:], dtype=object))
    step = float(header["pixdim"][4])
    timed = int(header["xyzt_units"]) & 0x38 in (8, 16, 24) and np.isfinite(step) and step not in (0.0, 1.0)
    if count > 1 and (int(header["intent_code"]) == TIME_SERIES or timed):
        raise unusable(
            path,
            f"is a series of {count} volumes in time (a step of {step:g}, by its header), expected channels",
            "Save each volume that is meant as a file of its own.",
        )


def _nifti_kind(path: str, start: bytes) -> type[Any]:
    """The class of a NIfTI file, by the size and the magic of its header; big endian ones too."""
    for size, (at, magic, kind) in MAGICS.items():
        if size in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")):
            if start[at : at + 4] == magic:
                return kind
            what, remedy = OTHERS[PAIR]
            if start[at : at + 4] in (magic.replace(b"+", b"i"), bytes(4)):
                raise unusable(path, f"is {what}, its header", remedy)
    raise ValueError("it does not start with the header of a NIfTI file")


def _nifti_bytes(image: Any) -> int:
    return int(image.dataobj.offset) + int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize


def _check_gzip_length(path: str, image: Any) -> None:
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        noted = int.from_bytes(file.read(4), "little")
    if noted != _nifti_bytes(image) % 2**32:  # cut off, or something follows the voxels: reading tells
        try:
            _unpacked(path, _nifti_bytes(image))
        except Exception as e:
            raise damaged(path, e) from e


def _unpacked(path: str, needed: int) -> bytes:
    """The first ``needed`` bytes of an archive, read to its end, where a checksum tells whether they are right."""
    buffer = io.BytesIO()
    with igzip.open(path) as file:
        while buffer.tell() < needed and (part := file.read(min(1 << 22, needed - buffer.tell()))):
            buffer.write(part)
        if buffer.tell() < needed:
            raise ValueError(f"{buffer.tell()} bytes, {needed} expected")
        behind = 0
        while part := file.read(1 << 20):
            behind += len(part)
            if behind > TRAILING:
                raise ValueError(f"more than {TRAILING} bytes follow its voxels")
    return buffer.getvalue()


def _nifti_affine(path: str, image: Any) -> np.ndarray:
    """The sform where there is one, else the qform; without either nobody knows left from right."""
    header = image.header
    if unit := UNITS.get(int(header["xyzt_units"]) & 7):
        raise unusable(
            path,
            f"its unit (xyzt_units) is {unit}, expected mm",
            "3D Slicer and ITK-SNAP read it right: save it there again, or scale its affine and set the unit to mm.",
        )
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        return _assumed_affine(path, np.abs(np.asarray(header.get_zooms()[:3], dtype=float)))
    try:
        forms = [form for form, code in (image.get_sform(coded=True), image.get_qform(coded=True)) if code > 0]
    except Exception as e:  # a quaternion that is none, a negative spacing
        raise damaged(path, e) from e
    affine = _checked_affine(path, forms[0])
    if int(header["sform_code"]) <= 0 and not (_stored_spacing(path, header) > 0).all():
        raise unusable(
            path,
            f"its qform has voxels of {_stored_spacing(path, header).tolist()} mm, expected sides above 0",
            "Convert it again from the original DICOM series.",
        )
    if len(forms) == 2 and np.isfinite(forms[1]).all() and abs(np.linalg.det(forms[1][:3, :3])) > 1e-6:
        shape = _volume_shape(path, image.shape)
        distance = largest_shift(forms[0], forms[1], shape)
        codes = ["".join(map(str, nibabel.aff2axcodes(form))) for form in forms]
        if codes[0] != codes[1]:
            raise ValueError(
                f"monai_ext: {path}: its sform says that the axes run {codes[0]}, its qform {codes[1]}. One of them is "
                "wrong: convert it again from the original DICOM series."
            )
        if distance > 0.1 * spacing_of(affine).min():
            _warn_once(f"monai_ext: {path}: sform and qform differ by up to {distance:.3g} mm; the sform is used.")
    return affine


def _stored_spacing(path: str, header: Any) -> np.ndarray:
    """As the file has it: nibabel turns what is not positive into something that is."""
    with igzip.open(path) if _starts_with(path, GZIP) else open(path, "rb") as file:
        content = file.read(header.template_dtype.itemsize)
    stored = np.frombuffer(content, header.template_dtype.newbyteorder(header.endianness))
    return np.asarray(stored["pixdim"][0, 1:4], dtype=float)


def _assumed_affine(path: str, spacing: np.ndarray) -> np.ndarray:
    """Voxels of a file without orientation, where the user vouches for one."""
    axes = os.environ.get("MONAI_EXT_ORIENTATION", "").upper()
    if not re.fullmatch("(?=.*[LR])(?=.*[AP])(?=.*[IS])[LRAPIS]{3}", axes):
        raise ValueError(
            f"monai_ext: {path}: it says nowhere which way its axes run, so left and right are unknown. Convert it "
            "again from the original DICOM series; or, if you know that all your files without it run, say, to the "
            "left, to the back and up, set MONAI_EXT_ORIENTATION=LPS."
        )
    _warn_once(f"monai_ext: {path}: without orientation; taken as {axes}, as MONAI_EXT_ORIENTATION says.")
    return _checked_affine(path, inv_ornt_aff(axcodes2ornt(tuple(axes)), (1, 1, 1)) @ np.diag([*spacing, 1.0]))


@lru_cache(maxsize=4096)
def _warn_once(message: str) -> None:
    logger.warning(message)


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


def _volume_shape(path: str, shape: Sequence[int], channel_names: Sequence[str] = ()) -> tuple[int, ...]:
    """The three sides of a volume, and its channels where several are named; further axes of length 1 are dropped."""
    kept = tuple(int(n) for n in shape)
    kept = (*kept[:3], *(n for n in kept[3:] if n > 1)) if len(channel_names) > 1 else kept
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if len(channel_names) > 1 and len(kept) in (3, 4):
        _check_count(path, kept[3] if len(kept) == 4 else 1, channel_names)
        return kept
    if len(kept) != 3:
        several = "" if len(kept) < 3 else f" {ONE_VALUE}"
        sides = "x".join(map(str, shape))
        raise ValueError(f"monai_ext: {path}: {sides}, expected a volume of three dimensions.{several}")
    return kept


def _checked_affine(path: str, affine: np.ndarray | None) -> np.ndarray:
    spacing = np.zeros(3) if affine is None else spacing_of(affine)
    # a micrometre to a metre: no scanner's voxel is beyond
    sane = affine is not None and np.isfinite(affine).all() and spacing.min() >= 1e-3 and spacing.max() <= 1e3
    if affine is None or not sane or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise ValueError(
            f"monai_ext: {path}: its geometry (affine) is missing, singular or of no scanner, so left and right are "
            "unknown. Convert it again from the original DICOM series."
        )
    return np.asarray(affine, dtype=np.float64)


def _itk_affine(path: str, image: Any, oriented: bool) -> np.ndarray:
    """ITK keeps direction, spacing and origin in LPS; ours is RAS as nibabel's."""
    if not oriented:
        return _assumed_affine(path, np.array(image.GetSpacing())[:3])
    return _checked_affine(path, from_itk(image))
