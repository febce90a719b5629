# SPDX-License-Identifier: Apache-2.0
"""The text headers of NRRD and MetaImage, checked strictly before a C++ library gets to see them.

ITK trusts these headers: an odd number of dimensions ends the process, a pipe named as the voxels' file stops it, and
where a direction or the sign of a spacing is amiss it makes one up.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ext.data.files.guards import unusable

__all__ = ["TextHeader", "read_text_header"]

LONGEST = 1 << 20  # bytes of a header
NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("signed long long int", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t"), 8),
    "float": 4,
    "double": 8,
}
META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4, "DOUBLE": 8}
META_BYTES |= {"LONG_LONG": 8, "ULONG_LONG": 8}
# other names of MetaImage's fields; where both are given they must agree, but a voxel may be larger than its spacing
META_NAMES = {"Orientation": "TransformMatrix", "Rotation": "TransformMatrix", "Position": "Offset", "Origin": "Offset"}
NRRD_SPACES = ("ras", "las", "lps", "right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
PACKED, PLAIN = ("gzip", "gz"), ("raw",)
MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres", "?", "???")
IN_MM = "Multiply its spacing and origin so that they are in mm, and say so in its header."
AGAIN = "Save it again, as one file packed with gzip (3D Slicer and ITK-SNAP do so)."
FROM_DICOM = "Convert it again from the original DICOM series."
ONE_VALUE = "Save the one that is meant as a file of its own."
NUMBERED = re.compile(r"([^%\s]*%0?[1-9]?d[^%\s]*) +(\d{1,6}) +(\d{1,6}) +(\d{1,6})(?: +\d)?")


@dataclass(frozen=True)
class TextHeader:
    """What a header promises.

    Attributes:
        shape: sizes of all axes.
        itemsize: bytes of a value.
        packed: whether the voxels are compressed.
        oriented: whether it says which way the axes run in the patient.
        voxels: the files that hold the voxels, one or a slice or volume each.
    """

    shape: tuple[int, ...]
    itemsize: int
    packed: bool
    oriented: bool
    voxels: tuple[Path, ...]


def read_text_header(path: str, several: bool = False) -> TextHeader:
    """The header of an NRRD or MetaImage file.

    Args:
        path: the file.
        several: whether it may have several values per voxel.

    Raises:
        ValueError: says what of it is missing or makes no sense; begins with ``monai_ext:`` where the file is sound but
            of a kind that is not read.
    """
    with open(path, "rb") as file:
        start = file.read(LONGEST)
    return (_nrrd if path.lower().endswith((".nrrd", ".nhdr")) else _meta)(path, start, several)


def _nrrd(path: str, start: bytes, several: bool) -> TextHeader:
    text, blank, _ = start.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = os.fsdecode(text).split("\n")
    if not re.fullmatch(r"NRRD000[1-5]", lines[0]) or (not blank and not path.lower().endswith(".nhdr")):
        raise ValueError("it does not start with the header of an NRRD file")
    fields: dict[str, str] = {}
    listed: list[str] = []
    segmentation = False
    for line in lines[1:]:
        if re.match(r"LIST\b", fields.get("data file", "")):
            listed.append(line.strip())
        elif ":=" in line:
            segmentation |= line.startswith("Segmentation_")
        elif line and not line.startswith("#"):
            key, colon, value = line.partition(":")
            if not colon or not key.isprintable():
                raise ValueError(f"line {line[:40]!r} of its header is none of NRRD's")
            key = key.strip().lower()
            fields["data file" if key == "datafile" else key] = value.strip()
    shape = _whole_numbers(fields.get("sizes"), "sizes")
    if fields.get("dimension") != str(len(shape)):
        raise ValueError(f"dimension {fields.get('dimension')!r}, but {len(shape)} sizes")
    itemsize = NRRD_BYTES.get(fields.get("type", "").lower())
    if itemsize is None:
        raise unusable(path, f"type {fields.get('type')!r} is not that of a number that is read", AGAIN)
    encoding = fields.get("encoding", "").lower()
    if encoding not in PACKED + PLAIN:
        raise unusable(path, f"encoding {encoding!r}, expected raw or gzip", AGAIN)
    if itemsize > 1 and fields.get("endian", "").lower() not in ("little", "big"):
        raise ValueError(f"endian {fields.get('endian')!r}, expected little or big")
    for name in ("space units", "units"):
        units = {unit.lower() for unit in re.findall(r'"([^"]*)"', fields.get(name, ""))}
        if units := units.difference(MILLIMETRES):
            raise unusable(path, f"{name} {', '.join(sorted(units))}, expected mm", IN_MM)
    if any(not v > 0 for v in _numbers(fields.get("spacings", ""), "spacings")):
        raise unusable(path, f"spacings {fields['spacings']}: not positive", FROM_DICOM)
    for name in fields.keys() & {"line skip", "byte skip"}:
        if not re.fullmatch(r"-1|\d{1,9}", fields[name]):
            raise ValueError(f"{name} {fields[name]!r}")
    vectors = re.findall(r"\(([^()]*)\)", fields.get("space directions", ""))
    if "spacings" in fields and "space" in fields:
        raise unusable(path, "spacings beside a space, expected space directions", FROM_DICOM)
    _numbers(" ".join(re.findall(r"\(([^()]*)\)", fields.get("space origin", ""))), "space origin")
    oriented = fields.get("space", "").lower() in NRRD_SPACES and len(vectors) == 3
    if oriented and not all(len(v) == 3 and any(v) for v in (_numbers(v, "space directions") for v in vectors)):
        raise ValueError(f"space directions {fields['space directions']!r}, expected three vectors, none of them zero")
    if segmentation:
        _check_segmentation(path, shape)
    if not several:
        _check_values(path, shape, fields)
    voxels = _beside(path, fields.get("data file"), listed)
    return TextHeader(shape, itemsize, encoding in PACKED, oriented, voxels)


def _check_segmentation(path: str, shape: Sequence[int]) -> None:
    """3D Slicer's ``.seg.nrrd``: of one layer it is a label map, whose values are those of the segments."""
    if len(shape) > 3 and shape[0] > 1:
        raise unusable(
            path,
            f"a segmentation of 3D Slicer in {shape[0]} layers, since its segments overlap, expected one label map",
            "In 3D Slicer export the segments as a labelmap (Segmentations, Export), or let segments overwrite others "
            "(Segment Editor, Masking, Modify other segments: Overwrite all) and save it again.",
        )
    if math.prod(shape) == 1:
        raise unusable(
            path, "a segmentation of 3D Slicer without any segment", "Draw what is there, or leave this case out."
        )


def _check_values(path: str, shape: Sequence[int], fields: dict[str, str]) -> None:
    """Axes that are none of space, which ITK takes for several values per voxel, wherever they stand."""
    kinds = fields.get("kinds", "").split()
    if len(shape) == len(kinds):
        for size, kind in zip(shape, kinds):
            if kind not in ("domain", "space") and size > 1:
                raise unusable(path, f"{size} values per voxel ({kind}), expected 1 (no colour, no series)", ONE_VALUE)


def _meta(path: str, start: bytes, several: bool) -> TextHeader:
    fields: dict[str, str] = {}
    lines = start.split(b"\n")
    for raw in lines:
        line = os.fsdecode(raw).strip("\r ")
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or not (key.isascii() and key.isprintable()):
            raise ValueError(f"line {line[:40]!r} of its header is none of MetaImage's")
        fields[key] = value
        if key == "ElementDataFile":
            break
    else:
        raise ValueError("its header does not end (no ElementDataFile)")
    shape = _whole_numbers(fields.get("DimSize"), "DimSize")
    if fields.get("NDims") != str(len(shape)):
        raise ValueError(f"NDims {fields.get('NDims')!r}, but {len(shape)} numbers in DimSize")
    channels = fields.get("ElementNumberOfChannels", "1")
    if not re.fullmatch(r"[1-9]\d{0,3}", channels):
        raise ValueError(f"ElementNumberOfChannels {channels!r}")
    if channels != "1" and not several:
        found = f"{fields['ElementNumberOfChannels']} values per voxel, expected 1 (no colour)"
        raise unusable(path, found, ONE_VALUE)
    itemsize = META_BYTES.get(fields.get("ElementType", "").removeprefix("MET_"))
    if itemsize is None:
        raise unusable(path, f"ElementType {fields.get('ElementType')!r} is not that of a number that is read", AGAIN)
    if fields.get("DistanceUnits", "").lower() not in MILLIMETRES:
        raise unusable(path, f"DistanceUnits {fields['DistanceUnits']}, expected mm", IN_MM)
    _join_names(path, fields)
    for name in ("ElementSpacing", "ElementSize"):
        if any(not v > 0 for v in _numbers(fields.get(name, ""), name)):
            raise unusable(path, f"{name} {fields[name]}: not positive", FROM_DICOM)
    for name, numbers in (("Offset", len(shape)), ("TransformMatrix", len(shape) ** 2), ("ElementSpacing", len(shape))):
        if name in fields and len(_numbers(fields[name], name)) != numbers:
            raise ValueError(f"{name} {fields[name]!r}, expected {numbers} numbers")
    truth = {"true": True, "false": False, "1": True, "0": False}
    for name in ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"):
        if fields.get(name, "False").lower() not in truth:
            raise ValueError(f"{name} {fields[name]!r}, expected True or False")
    if not truth[fields.get("BinaryData", "True").lower()]:
        raise unusable(path, "voxels written as text, expected BinaryData = True", AGAIN)
    if not re.fullmatch(r"-1|\d{1,18}", fields.get("HeaderSize", "0")):
        raise ValueError(f"HeaderSize {fields['HeaderSize']!r}")
    packed = truth[fields.get("CompressedData", "False").lower()]
    name = fields["ElementDataFile"]
    listed = [os.fsdecode(raw).strip() for raw in lines[lines.index(raw) + 1 :]] if re.match(r"LIST\b", name) else []
    voxels = _beside(path, None if name.upper() == "LOCAL" else name, listed)
    if packed and len(voxels) > 1:
        raise unusable(path, f"packed voxels in {len(voxels)} files, expected one", AGAIN)
    if packed and "CompressedDataSize" in fields:
        size, stored = fields["CompressedDataSize"], voxels[0].stat().st_size
        if not re.fullmatch(r"\d{1,18}", size) or int(size) > stored:
            raise ValueError(f"{size} bytes of voxels promised, the file has {stored}")
    oriented = "TransformMatrix" in fields and "ElementSpacing" in fields
    return TextHeader(shape, itemsize * int(channels), packed, oriented, voxels)


def _join_names(path: str, fields: dict[str, str]) -> None:
    """Enter what is given under another name of MetaImage's."""
    for other, name in META_NAMES.items():
        value = fields.get(other, "")
        if value and _numbers(fields.setdefault(name, value), name) != _numbers(value, other):
            raise unusable(path, f"{other} {value}, but {name} {fields[name]}", FROM_DICOM)
    if "ElementSize" in fields:
        fields.setdefault("ElementSpacing", fields["ElementSize"])


def _beside(path: str, name: str | None, listed: Sequence[str]) -> tuple[Path, ...]:
    """The files with the voxels: a header may name such in its own folder only.

    Args:
        path: the header's file.
        name: the one that it names, ``LIST``, or a numbered name with first, last and step; None for its own file.
        listed: the lines behind ``LIST``.
    """
    if name is None:
        return (Path(path),)
    names = [name]
    if re.fullmatch(r"LIST( \d)?", name):
        names = [line for line in listed if line]
    elif numbered := NUMBERED.fullmatch(name):
        first, last, step = map(int, numbered.groups()[1:])
        names = [numbered[1] % number for number in range(first, last + 1, max(1, step))]
    files = []
    for each in names or [name]:
        plain = re.fullmatch(r"(?:\./)?([^/\\%:\0]+)", each)
        voxels = Path(path).with_name(plain[1]) if plain and plain[1] not in (".", "..") else None
        if voxels is None or not voxels.is_file():
            raise unusable(
                path,
                f"its voxels are said to lie in {each[:200]!r}, expected a file in the same folder",
                "Put that beside it, or save the volume as one file (.nrrd, .mha).",
            )
        files.append(voxels)
    return tuple(files)


def _whole_numbers(text: str | None, name: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,8}( +[1-9]\d{0,8}){1,6}", text or ""):
        raise ValueError(f"{name} {text!r}, expected whole numbers above 0")
    return tuple(int(part) for part in str(text).split())


def _numbers(text: str, name: str) -> list[float]:
    try:
        values = [float(part) for part in re.split(r"[\s,]+", text.strip()) if part]
    except ValueError as e:
        raise ValueError(f"{name} {text[:60]!r}, expected numbers") from e
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} {text[:60]!r} is not finite")
    return values
