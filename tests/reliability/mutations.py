# SPDX-License-Identifier: Apache-2.0
"""Small good files of every format, and the ways in which they are made bad."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import SimpleITK as sitk
import torch
from PIL import Image

from tests.apps.series import make_multi_frame
from tests.data.volumes import RAS, save, volume
from tests.dicom import write_compressed, write_ct_series

Rng = np.random.Generator
BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
EXTREMES = (
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff\xff\xff\x7f" * 2,
    b"\0\0\0\x80" * 2,
    b"\0\0\xc0\x7f" * 2,
    b"\0\0\x80\x7f" * 2,
)


def mutate(rng: Rng, content: bytes, head: int = 352) -> bytes:
    """Cut off, flip, overwrite, insert, repeat; half of it within the first ``head`` bytes, where headers are."""
    data = bytearray(content)
    size = min(head, len(data)) if rng.random() < 0.5 else len(data)
    at = int(rng.integers(max(1, size)))
    way = rng.integers(9)
    if way == 0:
        return bytes(data[:at])
    if way == 1:
        for place in rng.integers(size, size=rng.integers(1, 9)):
            data[place] ^= 1 << int(rng.integers(8))
    elif way == 2:
        data[at] ^= 1 << int(rng.integers(8))
    elif way == 3:
        extreme = EXTREMES[rng.integers(len(EXTREMES))][: int(rng.choice([2, 4, 8]))]
        at -= at % len(extreme)
        data[at : at + len(extreme)] = extreme
    elif way == 4:
        data[at:at] = rng.bytes(int(rng.integers(1, 64)))
    elif way == 5:
        del data[at : at + int(rng.integers(1, 256))]
    elif way == 6:
        data[at:at] = data[at : at + int(rng.integers(1, 512))]
    elif way == 7:
        data[at : at + 16] = rng.bytes(16)
    else:
        return [b"", rng.bytes(64), bytes(data) + rng.bytes(256), bytes(len(data))][rng.integers(4)]
    return bytes(data)


def nifti_bytes(seed: int = 0, kind: type = nibabel.Nifti1Image) -> bytes:
    return kind(volume(seed)[0], RAS).to_bytes()


def plain_nifti(rng: Rng, folder: Path) -> Path:
    kind = [nibabel.Nifti1Image, nibabel.Nifti2Image][rng.integers(2)]
    return _write(folder / "scan.nii", mutate(rng, nifti_bytes(kind=kind)))


def packed_nifti(rng: Rng, folder: Path) -> Path:
    """Bits of the compressed stream: its checksum tells."""
    return _write(folder / "scan.nii.gz", mutate(rng, gzip.compress(nifti_bytes(), mtime=0), head=40))


def repacked_nifti(rng: Rng, folder: Path) -> Path:
    return _write(folder / "scan.nii.gz", gzip.compress(mutate(rng, nifti_bytes())))


# offset and type of NIfTI-1 fields, and what must not kill a reader
FIELDS: dict[str, tuple[int, str, tuple[Any, ...]]] = {
    "sizeof_hdr": (0, "<i", (0, -1, 347, 540, 2**31 - 1)),
    "dim0": (40, "<h", (0, -1, 1, 2, 4, 7, 8, 32767)),
    "dim1": (42, "<h", (0, -1, 32767)),
    "dims": (42, "<hhh", ((32767,) * 3, (-1,) * 3, (30000, 30000, 1), (1, 1, 1), (0, 0, 0))),
    "dims7": (40, "<8h", ((7, *(32767,) * 7), (7, *(2,) * 7))),
    "datatype": (70, "<h", (0, 1, 32, 128, 256, 1536, 2048, 2304, -7)),
    "bitpix": (72, "<h", (0, 1, 64, -8)),
    "pixdim": (76, "<ffff", ((1, 0, 0, 0), (1, -2, 2, 5), (0, 2, 2, 5), (1, 1e38, 1, 1), (1, float("nan"), 2, 5))),
    "vox_offset": (108, "<f", (0, -1, 1e30, 352.5, 360, float("nan"), float("inf"))),
    "scl": (112, "<ff", ((0, 0), (float("nan"), 0), (float("inf"), 0), (1e38, 1e38), (-1, 0))),
    "codes": (252, "<hh", ((0, 0), (-1, -1), (9, 9), (1, 0))),
    "quaternion": (256, "<fff", ((2, 2, 2), (float("nan"),) * 3)),
    "srow": (280, "<12f", ((0,) * 12, (float("nan"),) * 12, (1e30,) * 12, (1e-30, *(0,) * 4, 1, *(0,) * 4, 1, 0))),
    "magic": (344, "<4s", (b"ni1\0", b"\0\0\0\0", b"n+2\0", b"n+9\0")),
}


def nifti_field(rng: Rng, folder: Path) -> Path:
    """One or two header fields with values that make no sense, or promise terabytes."""
    data = bytearray(nifti_bytes())
    for name in rng.choice(list(FIELDS), size=rng.integers(1, 3), replace=False):
        at, form, values = FIELDS[name]
        value = values[rng.integers(len(values))]
        struct.pack_into(form, data, at, *(value if isinstance(value, tuple) else (value,)))
    if rng.random() < 0.5:
        return _write(folder / "scan.nii", bytes(data))
    return _write(folder / "scan.nii.gz", gzip.compress(bytes(data)))


_ZEROS: dict[int, bytes] = {}


def _packed_zeros(count: int) -> bytes:
    """A gzip member of ``count`` zeros."""
    if count not in _ZEROS:
        packer = zlib.compressobj(9, wbits=31)
        parts = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
        _ZEROS[count] = b"".join(parts) + packer.flush()
    return _ZEROS[count]


def bomb(rng: Rng, folder: Path) -> Path:
    """Gigabytes of zeros in a small archive: behind the voxels, as the voxels, or only promised by the header."""
    data = bytearray(nifti_bytes())
    way = rng.integers(4)
    if way == 0:  # voxels as promised, and 3 GB behind them, which no reader should unpack
        packed = gzip.compress(bytes(data)) + _packed_zeros(1 << 26) * 48
    else:  # 1500 to 4000 voxels a side
        side = int(rng.integers(1500, 4000))
        struct.pack_into("<hhh", data, 42, side, side, side)
        behind = [b"", _packed_zeros(1 << 26) * 16, _packed_zeros(1 << 26) * 640][way - 1]
        packed = gzip.compress(bytes(data[:352])) + behind
    return _write(folder / "scan.nii.gz", packed)


def _itk_bytes(suffix: str, compress: bool) -> bytes:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"monai_ext_hostile_{os.getpid()}"
    folder.mkdir(exist_ok=True)
    path = folder / f"good{suffix}"
    if not path.is_file() or compress:
        image = sitk.GetImageFromArray(volume()[0].T)
        image.SetSpacing((2.0, 2.0, 5.0))
        sitk.WriteImage(image, path, useCompression=compress)
    content = path.read_bytes()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    return content


_ITK: dict[tuple[str, bool], bytes] = {}
NRRD_LINES = {
    "sizes": ("sizes: 99999 99999 99999", "sizes: -1 2 3", "sizes: 24", "sizes: 24 20 6 1", "sizes: x y z", ""),
    "type": ("type: block", "type: int64", "type: double", "type: quux", ""),
    "dimension": ("dimension: 0", "dimension: 16", "dimension: 99", "dimension: 2", ""),
    "encoding": ("encoding: ascii", "encoding: bzip2", "encoding: hex", "encoding: raw", "encoding: ?", ""),
    "space directions": ("space directions: (0,0,0) (0,0,0) (0,0,0)", "space directions: none none none", ""),
    "space": ("space: nowhere", "space: scanner-xyz", ""),
    "space origin": ("space origin: (nan,inf,0)", "space origin: 1 2 3", ""),
    "endian": ("endian: big", "endian: ?", ""),
    "kinds": ("kinds: vector domain domain", "kinds: RGB-color domain domain", "data file: /etc/passwd"),
}
META_LINES = {
    "DimSize": ("DimSize = 99999 99999 99999", "DimSize = -1 2 3", "DimSize = 24", "DimSize = 0 0 0", ""),
    "NDims": ("NDims = 0", "NDims = 10", "NDims = 99", "NDims = -3", "NDims = 2", ""),
    "ElementType": ("ElementType = MET_DOUBLE", "ElementType = MET_NONE", "ElementType = ?", ""),
    "ElementSpacing": ("ElementSpacing = 0 0 0", "ElementSpacing = -1 -1 -1", "ElementSpacing = nan 1 1", ""),
    "TransformMatrix": ("TransformMatrix = 0 0 0 0 0 0 0 0 0", "TransformMatrix = 1 2", ""),
    "Offset": ("Offset = nan inf 0", "Offset = 1", ""),
    "CompressedData": ("CompressedData = True\nCompressedDataSize = 99999999999", "CompressedData = False"),
    "ElementDataFile": ("ElementDataFile = /etc/passwd", "ElementDataFile = ../../x", "ElementDataFile = LIST", ""),
    "BinaryDataByteOrderMSB": ("BinaryDataByteOrderMSB = True", "ElementNumberOfChannels = 1000000", ""),
}


def itk_file(rng: Rng, folder: Path) -> Path:
    """NRRD and MetaImage: bytes, or a line of their text header."""
    suffix, lines, sep = [(".nrrd", NRRD_LINES, b":"), (".mha", META_LINES, b" =")][rng.integers(2)]
    key = (suffix, bool(rng.random() < 0.6))
    if key not in _ITK:
        _ITK[key] = _itk_bytes(*key)
    content = _ITK[key]
    if rng.random() < 0.5:
        return _write(folder / f"scan{suffix}", mutate(rng, content, head=300))
    name = list(lines)[rng.integers(len(lines))]
    line = lines[name][rng.integers(len(lines[name]))]
    at = content.find(b"\n" + name.encode() + sep) + 1
    end = content.find(b"\n", at)
    content = content[:at] + line.encode() + content[end + (0 if line else 1) :]
    return _write(folder / f"scan{suffix}", content)


def detached(rng: Rng, folder: Path) -> Path:
    """Headers whose voxels are said to lie in another file."""
    target = ["/etc/passwd", "/dev/zero", "../outside.raw", "missing.raw", "pipe", "scan.raw", "%d.raw 1 9999999 1"][
        rng.integers(7)
    ]
    os.mkfifo(folder / "pipe")
    (folder / "scan.raw").write_bytes(volume()[0].tobytes()[: int(rng.integers(1, 6000))])
    if rng.random() < 0.5:
        text = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 24 20 6\nspace directions: "
        text += f"(2,0,0) (0,2,0) (0,0,5)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\ndata file: {target}\n"
        return _write(folder / "scan.nhdr", text.encode())
    text = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nTransformMatrix = 1 0 0 0"
    text += " 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 2 2 5\nDimSize = 24 20 6\nElementType = MET_SHORT\n"
    return _write(folder / "scan.mhd", f"{text}ElementDataFile = {target}\n".encode())


_SLICES: dict[str, list[bytes]] = {}


def _series(folder: Path, form: str) -> list[bytes]:
    """The slices of a CT, each as a file; ``form`` "", ``"multi-frame"`` or what ``write_compressed`` takes."""
    if form not in _SLICES:
        write_ct_series(folder, volume()[0], RAS)
        paths = sorted(folder.iterdir())
        if form == "multi-frame":
            make_multi_frame(folder)
            paths = sorted(folder.iterdir())
        elif form:
            for path in paths:
                write_compressed(path, form)
        _SLICES[form] = [path.read_bytes() for path in paths]
        for path in paths:
            path.unlink()
    return list(_SLICES[form])


def dicom_series(rng: Rng, folder: Path) -> Path:
    return _bad_series(rng, folder, "")


def compressed_series(rng: Rng, folder: Path) -> Path:
    return _bad_series(rng, folder, ["RLE", "JPEG", "JPEG2000", "JPEG-LS", "deflated", "multi-frame"][rng.integers(6)])


def _bad_series(rng: Rng, folder: Path, form: str) -> Path:
    series = folder / "series"
    series.mkdir(exist_ok=True)
    slices = _series(series, form)
    for place in [rng.integers(len(slices))] if rng.random() < 0.6 else range(len(slices)):
        if rng.random() < 0.4:  # absurd values behind the tags of size, depth, spacing, position and slope
            data = bytearray(slices[place])
            tags = (b"\x28\0\x10\0US", b"\x28\0\x11\0US", b"\x28\0\0\x01US", b"\x28\0\x02\0US", b"\x28\0\x30\0DS")
            tags += (b"\x20\0\x32\0DS", b"\x20\0\x37\0DS", b"\x28\0\x53\x10DS", b"\x02\0\x10\0UI", b"\xe0\x7f\x10\0OW")
            at = data.find(tags[rng.integers(len(tags))]) + 8
            data[at : at + 2] = rng.bytes(2) if rng.random() < 0.5 else b"\xff\xff"
            slices[place] = bytes(data)
        else:
            slices[place] = mutate(rng, slices[place], head=900)
    for k, content in enumerate(slices):
        (series / f"{k}.dcm").write_bytes(content)
    return series


def arrays(rng: Rng, folder: Path) -> Path:
    """``npz`` and ``h5`` with preprocessed arrays."""
    image = np.moveaxis(volume()[0], -1, 0)
    way = rng.integers(7)
    if way < 2:
        buffer = io.BytesIO()
        [np.savez, np.savez_compressed][rng.integers(2)](buffer, image=image)
        return _write(folder / "scan.npz", mutate(rng, buffer.getvalue(), head=200))
    if way == 2:  # the array's own header
        header = b"{'descr': %s, 'fortran_order': False, 'shape': %s, }"
        kinds, shapes = (
            (b"'<i2'", b"'|O'", b"'<f8'", b"'V9'"),
            (b"(99999, 99999, 99999)", b"(-1, 2)", b"()", b"(2, 2, 2)"),
        )
        text = header % (kinds[rng.integers(4)], shapes[rng.integers(4)])
        text += b" " * (117 - len(text)) + b"\n"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("image.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + image.tobytes())
        return _write(folder / "scan.npz", buffer.getvalue())
    if way == 3:
        _write(folder / "scan.npz", pickle.dumps(_Evil(f"touch {folder}/pwned")))
        return folder / "scan.npz"
    path = folder / "scan.h5"
    with h5py.File(path, "w") as h5:
        if way == 4:
            h5.create_dataset("image", shape=(9999, 9999, 9999), dtype="f4", chunks=(1, 64, 64))
            return path
        h5.create_dataset("image", data=image, compression="gzip" if rng.random() < 0.5 else None)
    return _write(path, mutate(rng, path.read_bytes(), head=800))


PICTURES = (".png", ".jpg", ".tif", ".bmp")


def _picture_bytes(suffix: str) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:]))
    return buffer.getvalue()


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def picture(rng: Rng, folder: Path) -> Path:
    suffix = PICTURES[rng.integers(len(PICTURES))]
    return _write(folder / f"scan{suffix}", mutate(rng, _picture_bytes(suffix), head=120))


def picture_bomb(rng: Rng, folder: Path) -> Path:
    """Pictures of absurd size, huge comments, and other formats under a picture's name."""
    way = rng.integers(6)
    if way < 2:
        width, height = [(2**31 - 1, 2**31 - 1), (60000, 60000), (2**31 - 1, 1), (0, 0)][rng.integers(4)]
        body = b"" if way else zlib.compress(bytes(1 << 20))
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = [_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", body), _png_chunk(b"IEND", b"")]
        return _write(folder / "scan.png", b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    if way == 2:
        data = bytearray(_picture_bytes(".bmp"))
        struct.pack_into("<ii", data, 18, int(rng.choice([2**31 - 1, 100000])), int(rng.choice([2**31 - 1, -100000])))
        return _write(folder / "scan.bmp", bytes(data))
    if way == 3:
        good = _picture_bytes(".png")
        text = _png_chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(1 << 27)))
        return _write(folder / "scan.png", good[:33] + text + good[33:])
    if way == 4:
        page = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {folder}/pwned) (w) file\nshowpage\n"
        return _write(folder / "scan.png", page.encode())
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(buffer, ["gif", "ppm", "tga", "ico"][rng.integers(4)])
    return _write(folder / "scan.jpg", buffer.getvalue())


def outlines(rng: Rng, folder: Path) -> Path:
    """ImageScope's XML, with what XML can do to a parser."""
    _write(folder / "scan.png", _picture_bytes(".png"))
    good = "<Annotations><Annotation><Regions><Region><Vertices>%s"
    good += "</Vertices></Region></Regions></Annotation></Annotations>"
    corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((1, 1), (9, 1), (9, 9)))
    way = rng.integers(5)
    if way == 0:
        levels = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
        text = f'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">{levels}]><Annotations>&a11;</Annotations>'
    elif way == 1:
        text = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Annotations>&e;</Annotations>'
    elif way == 2:
        text = good % '<Vertex X="nan" Y="inf"/><Vertex X="1e308" Y="-1e308"/><Vertex X="9" Y="9"/>'
    elif way == 3:
        text = "<a>" * 100000
    else:
        return _write(folder / "scan.xml", mutate(rng, (good % corners).encode(), head=200))
    return _write(folder / "scan.xml", text.encode())


class _Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (self.command,)


_WEIGHTS: dict[bool, bytes] = {}


def checkpoint(rng: Rng, folder: Path) -> Path:
    """Weights that are cut off, of something else, archives that swell, and pickles that run commands."""
    path = folder / "model.pt"
    way = rng.integers(10)
    if way == 0:
        torch.save(_Evil(f"touch {folder}/pwned"), path)
    elif way == 1:
        path.write_bytes(pickle.dumps({"w": _Evil(f"touch {folder}/pwned")}))
    elif way == 2:
        torch.save(
            [1, {"model": 3}, {"state_dict": {"w": "x"}}, torch.nn.Linear(2, 2), None, "text"][rng.integers(6)], path
        )
    elif way == 3:  # bytearray(10**12), which a loader of plain values lets through
        path.write_bytes(b"\x80\x02c__builtin__\nbytearray\n\x8a\x05" + (10**12).to_bytes(5, "little") + b"\x85R.")
    elif way == 4:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model/data.pkl", pickle.dumps({}, protocol=2))
            archive.writestr("model/version", "3\n")
            with archive.open("model/data/0", "w", force_zip64=True) as file:
                for _ in range(64):
                    file.write(bytes(1 << 20))
    else:
        if not _WEIGHTS:
            for old in (False, True):
                buffer = io.BytesIO()
                torch.manual_seed(0)
                torch.save(torch.nn.Linear(7, 3).state_dict(), buffer, _use_new_zipfile_serialization=not old)
                _WEIGHTS[old] = buffer.getvalue()
        path.write_bytes(mutate(rng, _WEIGHTS[way == 9], head=600))
    return path


ODD_VALUES: tuple[Any, ...] = (
    None,
    1,
    -1.5,
    True,
    "",
    "x",
    [],
    {},
    [[]],
    "a\0b",
    "../../up.nii.gz",
    "/etc/passwd",
    "x" * 5000,
)


def _odd(rng: Rng) -> Any:
    return ODD_VALUES[rng.integers(len(ODD_VALUES))]


def json_list(rng: Rng, folder: Path) -> Path:
    """A list of cases with parts that are missing, of another kind, endless, or that point out of the folder."""
    for case in (1, 2, 3):
        image, label = volume(case)
        save(folder / f"img{case}.nii.gz", image)
        save(folder / f"label{case}.nii.gz", label)
    cases = [{"image": f"img{case}.nii.gz", "label": f"label{case}.nii.gz"} for case in (1, 2, 3)]
    content: Any = {"training": cases[:2], "test": cases[2:], "label_mapping": {str(i): i % 9 for i in range(14)}}
    way = rng.integers(8)
    if way == 0:
        return _write(folder / "cases.json", b"[" * 100000)
    if way == 1:
        return _write(folder / "cases.json", b'{"training": ' + b'{"a":' * 5000)
    if way == 2:
        content[list(content)[rng.integers(3)]] = _odd(rng)
    elif way == 3:
        cases[0][["image", "label", "case_id"][rng.integers(3)]] = _odd(rng)
    elif way == 4:
        cases[rng.integers(2)] = _odd(rng)
    elif way == 5:
        content["label_mapping"] = {str(_odd(rng)): _odd(rng)}
    elif way == 6:
        content = _odd(rng)
    else:
        return _write(folder / "cases.json", mutate(rng, json.dumps(content).encode(), head=200))
    return _write(folder / "cases.json", json.dumps(content).encode())


def split_file(rng: Rng, folder: Path) -> Path:
    good = {"training": ["a", "b"], "validation": [], "test": ["c"]}
    if rng.random() < 0.5:
        good[["training", "validation", "test"][rng.integers(3)]] = _odd(rng)
        return _write(folder / "split.json", json.dumps(good).encode())
    return _write(folder / "split.json", mutate(rng, json.dumps(good).encode()))


def summary(rng: Rng, folder: Path) -> Path:
    """What ``report`` reads."""
    scores = {"dice": {"mean": 0.5}, "hd95": {"mean": 2.5}, "missed": 1}
    good: Any = {
        "title": "t",
        "phantom": True,
        "data": "d",
        "number_of_cases": 1,
        "class_names": ["liver"],
        "conventions": {"monai": {"hd95_unit": "mm", "overall": scores, "classes": {"liver": scores}}},
    }
    if rng.random() < 0.5:
        good[list(good)[rng.integers(len(good))]] = _odd(rng)
        return _write(folder / "summary.json", json.dumps(good).encode())
    return _write(folder / "summary.json", mutate(rng, json.dumps(good).encode()))


def _bad_value(rng: Rng, content: Any) -> None:
    """Something odd in the place of any value within, or one of them gone."""
    places = []
    todo = [content]
    while todo:
        inner = todo.pop()
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            places.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                todo.append(inner[key])
    inner, key = places[rng.integers(len(places))]
    if rng.random() < 0.3:
        del inner[key]
    else:
        inner[key] = _odd(rng)


def _bad_json(rng: Rng, content: Any) -> bytes:
    if rng.random() < 0.4:
        return mutate(rng, json.dumps(content).encode(), head=400)
    _bad_value(rng, content)
    return json.dumps(content).encode()


def run_record(rng: Rng, folder: Path) -> Path:
    """What ``reproduce`` starts again; a run of no steps on no cases."""
    good = {
        "kind": "training",
        "bundle": "dcaunet_synapse",
        "seed": 0,
        "phantom": True,
        "processes": 1,
        "versions": {"torch": "2.13.0", "python": "3.11"},
        "config": {"cases": {"training": [], "validation": []}, "initialize": [], "run": []},
        "cases": [],
    }
    return _write(folder / "run_training.json", _bad_json(rng, good))


def metadata(rng: Rng, folder: Path) -> Path:
    """What ``bundles`` lists."""
    configs = folder / "bundles" / "mine" / "configs"
    configs.mkdir(parents=True)
    good = {"task": "organs", "version": "0.1.0", "network_data_format": {"inputs": {}, "outputs": {}}}
    return _write(configs / "metadata.json", _bad_json(rng, good))


def inference_config(rng: Rng, folder: Path) -> Path:
    """A bundle that ``segment`` uses: ours, with one convolution as network and something wrong in its config."""
    configs = folder / "configs"
    configs.mkdir()
    source = BUNDLES / "dcaunet_synapse" / "configs"
    good = json.loads((source / "inference.json").read_text())
    good |= {"image_size": [16, 16], "num_workers": 0, "device": "$torch.device('cpu')", "bundle_root": str(folder)}
    good["network_def"] = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 9, "kernel_size": 1}
    good["network"] = "@network_def"
    (configs / "metadata.json").write_bytes((source / "metadata.json").read_bytes())
    (folder / "models").mkdir()
    torch.manual_seed(0)
    torch.save(torch.nn.Conv2d(1, 9, 1).state_dict(), folder / "models" / "model.pt")
    save(folder / "scan.nii.gz", volume()[0])
    _write(configs / "inference.json", _bad_json(rng, good))
    return folder


def special_file(rng: Rng, folder: Path) -> Path:
    """Pipes, devices, sockets, folders and links under the name of an image."""
    path = folder / f"scan{['.nii', '.nii.gz', '.nrrd', '.mha', '.png', '.jpg'][rng.integers(6)]}"
    way = rng.integers(6)
    if way == 0:
        os.mkfifo(path)
    elif way == 1:
        path.symlink_to(["/dev/zero", "/dev/random", "/dev/stdin", "/etc/passwd", "/proc/self/mem"][rng.integers(5)])
    elif way == 2:
        path.symlink_to(path)
    elif way == 3:
        path.symlink_to("nowhere")
    elif way == 4:
        path.mkdir()
    else:
        return folder / ("x" * 300 + ".nii.gz")
    return path


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
