# SPDX-License-Identifier: Apache-2.0
"""NIfTI files, versions 1 and 2, plain or packed with gzip whatever their names say."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
from isal import igzip

from monai_ext.data.files.affines import largest_shift, spacing_of
from monai_ext.data.files.guards import check_promise, damaged, unusable
from monai_ext.data.files.volume_checks import assumed_affine, checked_affine, volume_shape, warn_once
from monai_ext.data.files.volume_finder import OTHERS, PAIR

__all__ = ["nifti_geometry", "read_nifti"]

TRAILING = 1 << 24  # bytes behind the voxels that are read to reach the checksum of an archive
GZIP = b"\x1f\x8b"
MAGICS = {348: (344, b"n+1\0", nibabel.Nifti1Image), 540: (4, b"n+2\0", nibabel.Nifti2Image)}  # by the header's size
TIME_SERIES = 2001  # intent code of NIfTI
UNITS = {1: "metres", 3: "micrometres"}  # xyzt_units of NIfTI that are not mm


def read_nifti(path: str, channel_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Voxels ``(X, Y, Z)``, or ``(C, X, Y, Z)`` of several channels, and affine."""
    image = _header(path, channel_names)
    shape = volume_shape(path, image.shape, channel_names)
    affine = _affine(path, image)
    try:
        if _starts_with(path, GZIP):
            array = np.asanyarray(type(image).from_bytes(_unpacked(path, _bytes(image))).dataobj)
        else:
            with open(path, "rb") as file:
                array = np.asanyarray(type(image).from_stream(file).dataobj)
    except Exception as e:  # a damaged file may raise anything
        raise damaged(path, e) from e
    array = array.reshape(shape)
    return np.moveaxis(array, -1, 0) if len(shape) == 4 else array, affine


def nifti_geometry(path: str, channel_names: Sequence[str]) -> tuple[tuple[int, ...], np.ndarray]:
    """Sides and affine; no voxel is read, unless an archive's length is not what its header says."""
    image = _header(path, channel_names)
    if _starts_with(path, GZIP):
        _check_gzip_length(path, image)
    return volume_shape(path, image.shape, channel_names)[:3], _affine(path, image)


def _starts_with(path: str, magic: bytes) -> bool:
    """What a file is, which its name need not say: browsers and mail programs pack and unpack in passing."""
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _header(path: str, channel_names: Sequence[str] = ()) -> Any:
    """A NIfTI image whose voxels are not read yet, but are there as far as sizes tell."""
    packed = _starts_with(path, GZIP)
    try:
        with igzip.open(path) if packed else open(path, "rb") as file:
            kind = _kind(path, file.read(352))
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
    volume_shape(path, shape, channel_names)
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


def _kind(path: str, start: bytes) -> type[Any]:
    """The class of a NIfTI file, by the size and the magic of its header; big endian ones too."""
    for size, (at, magic, kind) in MAGICS.items():
        if size in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")):
            if start[at : at + 4] == magic:
                return kind
            what, remedy = OTHERS[PAIR]
            if start[at : at + 4] in (magic.replace(b"+", b"i"), bytes(4)):
                raise unusable(path, f"is {what}, its header", remedy)
    raise ValueError("it does not start with the header of a NIfTI file")


def _bytes(image: Any) -> int:
    return int(image.dataobj.offset) + int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize


def _check_gzip_length(path: str, image: Any) -> None:
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        noted = int.from_bytes(file.read(4), "little")
    if noted != _bytes(image) % 2**32:  # cut off, or something follows the voxels: reading tells
        try:
            _unpacked(path, _bytes(image))
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


def _affine(path: str, image: Any) -> np.ndarray:
    """The sform where there is one, else the qform; without either nobody knows left from right."""
    header = image.header
    if unit := UNITS.get(int(header["xyzt_units"]) & 7):
        raise unusable(
            path,
            f"its unit (xyzt_units) is {unit}, expected mm",
            "3D Slicer and ITK-SNAP read it right: save it there again, or scale its affine and set the unit to mm.",
        )
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        return assumed_affine(path, np.abs(np.asarray(header.get_zooms()[:3], dtype=float)))
    try:
        forms = [form for form, code in (image.get_sform(coded=True), image.get_qform(coded=True)) if code > 0]
    except Exception as e:  # a quaternion that is none, a negative spacing
        raise damaged(path, e) from e
    affine = checked_affine(path, forms[0])
    if int(header["sform_code"]) <= 0 and not (_stored_spacing(path, header) > 0).all():
        raise unusable(
            path,
            f"its qform has voxels of {_stored_spacing(path, header).tolist()} mm, expected sides above 0",
            "Convert it again from the original DICOM series.",
        )
    if len(forms) == 2 and np.isfinite(forms[1]).all() and abs(np.linalg.det(forms[1][:3, :3])) > 1e-6:
        shape = volume_shape(path, image.shape)
        distance = largest_shift(forms[0], forms[1], shape)
        codes = ["".join(map(str, nibabel.aff2axcodes(form))) for form in forms]
        if codes[0] != codes[1]:
            raise ValueError(
                f"monai_ext: {path}: its sform says that the axes run {codes[0]}, its qform {codes[1]}. One of them is "
                "wrong: convert it again from the original DICOM series."
            )
        if distance > 0.1 * spacing_of(affine).min():
            warn_once(f"monai_ext: {path}: sform and qform differ by up to {distance:.3g} mm; the sform is used.")
    return affine


def _stored_spacing(path: str, header: Any) -> np.ndarray:
    """As the file has it: nibabel turns what is not positive into something that is."""
    with igzip.open(path) if _starts_with(path, GZIP) else open(path, "rb") as file:
        content = file.read(header.template_dtype.itemsize)
    stored = np.frombuffer(content, header.template_dtype.newbyteorder(header.endianness))
    return np.asarray(stored["pixdim"][0, 1:4], dtype=float)
