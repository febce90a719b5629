# SPDX-License-Identifier: Apache-2.0
"""The text headers of NRRD and MetaImage, checked strictly before a C++ library gets to see them.

ITK trusts these headers: an odd number of dimensions ends the process, a pipe named as the voxels' file stops it, and
where a direction or the sign of a spacing is amiss it makes one up.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TextHeader", "read_text_header"]

LONGEST = 1 << 20  # bytes of a header
NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    "float": 4,
    "double": 8,
}
META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4, "DOUBLE": 8}
META_BYTES |= {"LONG_LONG": 8, "ULONG_LONG": 8}
NRRD_SPACES = ("RAS", "LAS", "LPS", "right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
PACKED, PLAIN = ("gzip", "gz"), ("raw",)


@dataclass(frozen=True)
class TextHeader:
    """What a header promises.

    Attributes:
        shape: sizes of all axes.
        itemsize: bytes of a value.
        packed: whether the voxels are compressed.
        oriented: whether it says which way the axes run in the patient.
        voxels: the file that holds the voxels.
    """

    shape: tuple[int, ...]
    itemsize: int
    packed: bool
    oriented: bool
    voxels: Path


def read_text_header(path: str) -> TextHeader:
    """The header of an NRRD or MetaImage file.

    Raises:
        ValueError: says what of it is missing or makes no sense.
    """
    with open(path, "rb") as file:
        start = file.read(LONGEST)
    return _nrrd(path, start) if path.lower().endswith((".nrrd", ".nhdr")) else _meta(path, start)


def _nrrd(path: str, start: bytes) -> TextHeader:
    text, blank, _ = start.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = text.decode("latin-1").split("\n")
    if not re.fullmatch(r"NRRD000[1-5]", lines[0]) or (not blank and not path.lower().endswith(".nhdr")):
        raise ValueError("it does not start with the header of an NRRD file")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        if line and not line.startswith("#") and ":=" not in line:
            key, colon, value = line.partition(":")
            if not colon or not key.isprintable():
                raise ValueError(f"line {line[:40]!r} of its header is none of NRRD's")
            fields[key.strip().lower()] = value.strip()
    shape = _whole_numbers(fields.get("sizes"), "sizes")
    if fields.get("dimension") != str(len(shape)):
        raise ValueError(f"dimension {fields.get('dimension')!r}, but {len(shape)} sizes")
    itemsize = NRRD_BYTES.get(fields.get("type", "").lower())
    if itemsize is None:
        raise ValueError(f"type {fields.get('type')!r} is not that of a number")
    encoding = fields.get("encoding", "").lower()
    if encoding not in PACKED + PLAIN:
        raise ValueError(f"encoding {encoding!r}, expected raw or gzip")
    if itemsize > 1 and fields.get("endian", "").lower() not in ("little", "big"):
        raise ValueError(f"endian {fields.get('endian')!r}, expected little or big")
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) - {"mm", ""}
    if units:
        raise ValueError(f"space units {', '.join(sorted(units))}, expected mm")
    if any(not v > 0 for v in _numbers(fields.get("spacings", ""), "spacings")):
        raise ValueError(f"spacings {fields['spacings']}: not positive")
    for name in fields.keys() & {"line skip", "byte skip"}:
        if not re.fullmatch(r"-1|\d{1,9}", fields[name]):
            raise ValueError(f"{name} {fields[name]!r}")
    vectors = re.findall(r"\(([^()]*)\)", fields.get("space directions", ""))
    _numbers(" ".join(re.findall(r"\(([^()]*)\)", fields.get("space origin", ""))), "space origin")
    oriented = fields.get("space") in NRRD_SPACES and len(vectors) == 3
    if oriented and not all(len(v) == 3 and any(v) for v in (_numbers(v, "space directions") for v in vectors)):
        raise ValueError(f"space directions {fields['space directions']!r}, expected three vectors, none of them zero")
    voxels = _beside(path, fields.get("data file", fields.get("datafile")))
    return TextHeader(shape, itemsize, encoding in PACKED, oriented, voxels)


def _meta(path: str, start: bytes) -> TextHeader:
    fields: dict[str, str] = {}
    for raw in start.split(b"\n"):
        line = raw.decode("latin-1").strip("\r ")
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
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise ValueError(f"{fields['ElementNumberOfChannels']} values per voxel, expected 1 (no colour)")
    itemsize = META_BYTES.get(fields.get("ElementType", "").removeprefix("MET_"))
    if itemsize is None:
        raise ValueError(f"ElementType {fields.get('ElementType')!r} is not that of a number")
    for name in ("ElementSpacing", "ElementSize"):
        if any(not v > 0 for v in _numbers(fields.get(name, ""), name)):
            raise ValueError(f"{name} {fields[name]}: not positive")
    for name, count in (("Offset", len(shape)), ("TransformMatrix", len(shape) ** 2), ("ElementSpacing", len(shape))):
        if name in fields and len(_numbers(fields[name], name)) != count:
            raise ValueError(f"{name} {fields[name]!r}, expected {count} numbers")
    truth = {"true": True, "false": False, "1": True, "0": False}
    for name in ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"):
        if fields.get(name, "False").lower() not in truth:
            raise ValueError(f"{name} {fields[name]!r}, expected True or False")
    if not truth[fields.get("BinaryData", "True").lower()]:
        raise ValueError("voxels written as text, expected BinaryData = True")
    if not re.fullmatch(r"-1|\d{1,18}", fields.get("HeaderSize", "0")):
        raise ValueError(f"HeaderSize {fields['HeaderSize']!r}")
    packed = truth[fields.get("CompressedData", "False").lower()]
    voxels = _beside(path, None if fields["ElementDataFile"].upper() == "LOCAL" else fields["ElementDataFile"])
    if packed and "CompressedDataSize" in fields:
        size = fields["CompressedDataSize"]
        if not re.fullmatch(r"\d{1,18}", size) or int(size) > voxels.stat().st_size:
            raise ValueError(f"{size} bytes of voxels promised, the file has {voxels.stat().st_size}")
    oriented = "TransformMatrix" in fields and "ElementSpacing" in fields
    return TextHeader(shape, itemsize, packed, oriented, voxels)


def _beside(path: str, name: str | None) -> Path:
    """The file with the voxels: a header may name one in its own folder only."""
    if name is None:
        return Path(path)
    voxels = Path(path).with_name(name) if re.fullmatch(r"[^/\\%: ]+\.\w+", name) else None
    if voxels is None or not voxels.is_file():
        raise ValueError(f"its voxels are said to lie in {name!r}, expected a file in the same folder")
    return voxels


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
