# SPDX-License-Identifier: Apache-2.0
"""What a DICOM file says of itself, held against its size; its pixels are not read."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_description
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monai_ext.data.files.guards import damaged, require_file, unusable

__all__ = [
    *("EXPORT_AGAIN", "SUFFIXES", "Header", "data_set", "is_uid", "number_of_frames", "read_header", "require"),
    *("text", "values"),
]

UID_PATTERN = re.compile(r"[0-9]+(\.[0-9]+)*")
EXPORT_AGAIN = "Export the series again from its archive."

SUFFIXES = (".dcm", ".ima")
STARTS = (1 << 16, 1 << 20, 1 << 26)  # bytes in which a header ends; read from memory, a senseless length ends there
PIXELS = {(0x7FE0, 0x0010), (0x7FE0, 0x0009), (0x7FE0, 0x0008)}  # whole numbers, doubles, floats
ITEM, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
INFLATED = 1 << 31  # bytes that a deflated file may become
# of a data set without preamble: its first group is 0002 or 0008
RAW = (b"\x08\x00", b"\x02\x00", b"\x00\x08")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what a value could tell a terminal
SCANS = ("CT", "MR", "PT", "NM")
# their pixels are no scan's; the other objects without images (RTSTRUCT, SR, PR, ...) have none
NO_SCANS = ("SEG", "RTDOSE", "RTIMAGE", "PR", "SR", "KO", "DOC", "REG", "RTPLAN", "RTSTRUCT")
USED = (
    *("SOPInstanceUID", "SeriesInstanceUID", "ImageType", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "FrameOfReferenceUID"),
)


@dataclass(frozen=True)
class Header:
    """The tags of a file before its pixels, and how these are stored."""

    path: str
    tags: Dataset
    syntax: UID
    pixels: bool

    @property
    def is_image(self) -> bool:
        return self.pixels and "Rows" in self.tags and text(self.tags, "Modality").upper() not in NO_SCANS


def read_header(path: str | os.PathLike) -> Header | None:
    """The header of a DICOM object; None of any other file, and of a DICOMDIR.

    DICOM is told by the mark behind the preamble, by a name ending in ``.dcm`` or ``.ima``, or, of a data set without
    preamble, by its first tags.

    Raises:
        ValueError: if it is damaged; names the file.
    """
    path = str(path)
    require_file(path)
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as e:
        raise OSError(f"monai_ext: {path}: cannot be read ({e.strerror}).") from e
    with file:
        start = file.read(1024)
        sure = start[128:132] == b"DICM" or Path(path).suffix.lower() in SUFFIXES
        if not sure and not start.startswith(RAW):
            return None
        try:
            return _header(path, file, DeflatedExplicitVRLittleEndian.encode() in start)
        except Exception as e:  # a damaged file may raise anything
            if not sure:
                return None
            raise e if str(e).startswith("monai_ext: ") else damaged(path, e, b"DICM") from e


def data_set(path: str) -> Dataset:
    """A whole object, pixels included; read from memory, so that a length that makes no sense reads no further."""
    content = Path(path).read_bytes()
    if DeflatedExplicitVRLittleEndian.encode() in content[:1024]:
        _check_inflated(content)
    ds = dcmread(io.BytesIO(content), force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = _syntax(ds)
    return ds


def require(path: str, tags: Dataset, *names: str) -> None:
    """An image must say these things of itself.

    Raises:
        ValueError: names the file and the first that is not there.
    """
    for name in names:
        if not text(tags, name):
            raise unusable(
                path, f"it has no {dictionary_description(name)}, without which no image is read", EXPORT_AGAIN
            )


def number_of_frames(tags: Dataset) -> int:
    """Images in an object."""
    return int(tags.get("NumberOfFrames") or 1)


def is_uid(text: str) -> bool:
    """Whether a text is a UID, as the standard writes one; such a text can be a name in a path.

    Examples::

        >>> is_uid("1.2.840.10008"), is_uid("1.2/..")
        (True, False)
    """
    return len(text) <= 64 and UID_PATTERN.fullmatch(text) is not None


def text(tags: Dataset, name: str) -> str:
    """A value as one line of text, ``""`` where there is none; what cannot be decoded is no reason to fail."""
    try:
        value = tags.get(name)
        return "" if value is None else CONTROL.sub("", " ".join(str(value).split()))
    except Exception:
        return ""


def values(value: object) -> frozenset[str]:
    """The texts of a value that may be one, several or none, in capitals; each of several words, too."""
    several = [value] if isinstance(value, str) else value or []
    texts = {str(one).strip().upper() for one in several}  # type: ignore[attr-defined]
    return frozenset(texts.union(*(one.split() for one in texts)))  # as in "CT_SOM5 MIP"


def _header(path: str, file: BinaryIO, deflated: bool) -> Header | None:
    if deflated:
        tags = data_set(path)
        stored = len(tags.PixelData) if "PixelData" in tags else None
        tags.pop("PixelData", None)
    else:
        tags, at = _tags(file)
        stored = _pixel_bytes(file, at, _syntax(tags), os.path.getsize(path))
    if "DirectoryRecordSequence" in tags:
        return None
    kind = text(tags, "SOPClassUID") or text(tags.file_meta, "MediaStorageSOPClassUID")
    if not kind and "SeriesInstanceUID" not in tags and "Modality" not in tags:
        raise ValueError("no data set of an image or another object")
    header = Header(path, tags, _syntax(tags), stored is not None)
    modality = text(tags, "Modality").upper()
    an_image = "Image Storage" in UID(kind).name or (modality in SCANS and "Rows" in tags)
    if stored is None and an_image and modality not in NO_SCANS:
        raise ValueError("an image without pixels")
    for name in USED:  # whoever asks for it later is given it
        tags.get(name)
    if header.is_image:
        require(path, tags, "Rows", "Columns", "BitsAllocated")
        size, frames = (int(tags.Rows), int(tags.Columns)), number_of_frames(tags)
        bits = size[0] * size[1] * frames * int(tags.get("SamplesPerPixel") or 1) * int(tags.BitsAllocated)
        if not header.syntax.is_encapsulated and bits // 8 > (stored or 0):
            raise ValueError(f"{size[0]}x{size[1]} pixels promised, its {stored} bytes cannot hold them")
    return header


def _tags(file: BinaryIO) -> tuple[Any, int]:
    """The data set before the pixels, and where in the file it ends."""
    size = os.fstat(file.fileno()).st_size
    for limit in STARTS:
        file.seek(0)
        stream = io.BytesIO(file.read(limit))
        whole = limit >= size or limit == STARTS[-1]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of values cut off by the limit
                tags = dcmread(stream, stop_before_pixels=True, force=True)
        except Exception:
            if whole:
                raise
            continue
        at = stream.tell()
        if whole or _tag(stream.getvalue()[at : at + 4], _syntax(tags)) in PIXELS:
            break
    return tags, at


def _syntax(tags: Any) -> UID:
    """The transfer syntax, which a data set without meta header shows by the way it is written."""
    if syntax := tags.file_meta.get("TransferSyntaxUID"):
        if not UID(syntax).is_transfer_syntax:
            raise ValueError(f"its transfer syntax is {syntax!s:.80}, which is none")
        return UID(syntax)
    implicit, little = tags.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _tag(content: bytes, syntax: UID) -> tuple[int, ...]:
    return struct.unpack("<HH" if syntax.is_little_endian else ">HH", content) if len(content) == 4 else ()


def _pixel_bytes(file: BinaryIO, at: int, syntax: UID, size: int) -> int | None:
    """Bytes of the pixel data at ``at``, none of whose parts may be beyond the file; None where there are none."""
    file.seek(at)
    if _tag(file.read(4), syntax) not in PIXELS:
        return None
    if not syntax.is_implicit_VR:
        file.seek(4, os.SEEK_CUR)
    (length,) = struct.unpack("<I" if syntax.is_little_endian else ">I", file.read(4))
    if not syntax.is_encapsulated:
        if file.tell() + length > size:
            raise ValueError(f"{length} bytes of pixels promised, its {size - at} bytes cannot hold them")
        return int(length)
    while file.tell() + 8 <= size:
        group, element, length = struct.unpack("<HHI", file.read(8))
        if (group, element) == SEQUENCE_END:
            break
        if (group, element) != ITEM or file.tell() + length > size:
            raise ValueError("a part of its compressed pixels reaches beyond the file")
        file.seek(length, os.SEEK_CUR)
    return size - at


def _check_inflated(content: bytes) -> None:
    """pydicom inflates all at once, however much that is."""
    if len(content) < 144 or content[132:140] != b"\x02\0\0\0UL\x04\0":
        raise ValueError("a deflated file whose meta header has no length")
    at = 144 + int.from_bytes(content[140:144], "little")
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    rest = content[at:]
    while rest and not inflater.eof:
        inflated += len(inflater.decompress(rest, 1 << 22))
        rest = inflater.unconsumed_tail
        if inflated > INFLATED:
            raise ValueError(f"it inflates to more than {INFLATED} bytes")
