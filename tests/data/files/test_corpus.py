# SPDX-License-Identifier: Apache-2.0
"""Every kind of file that the docs promise, read by ours and by an independent library, and compared by value.

NIfTI: nibabel (ours) against ITK. NRRD: ITK (ours) against pynrrd. MetaImage: ITK (ours) against the few lines below.
Pictures: Pillow (ours) against OpenCV and tifffile. What is written comes from yet another of these, or from bytes.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from monai.transforms import LoadImage
from PIL import Image

from monai_ext.data import MaskReader, PictureReader, VolumeReader, read_geometry
from tests.data.volumes import RAS, rotation

RNG = np.random.default_rng(0)
SHAPE = (7, 6, 5)
VOXELS = RNG.integers(0, 100, SHAPE).astype(np.int16)
OBLIQUE = rotation(13) @ RAS @ np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
OBLIQUE[:3, 3] = 11.5, -7, 3
SHEARED = np.array([[2.0, 0, 0, 1], [0, 2, 1.2, 2], [0, 0, 5, 3], [0, 0, 0, 1]])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
WHOLE = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8")
REAL = ("f4", "f8")

Volume = tuple[np.ndarray, np.ndarray]


def by_itk(path: Path) -> Volume:
    image = sitk.ReadImage(path)
    affine = np.eye(4)
    size = image.GetDimension()
    affine[:3, :3] = np.reshape(image.GetDirection(), (size, size))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return sitk.GetArrayFromImage(image).T.reshape(SHAPE), LPS @ affine


def by_nibabel(path: Path) -> Volume:
    image: Any = nibabel.load(path)
    return np.asanyarray(image.dataobj), image.affine


def by_pynrrd(path: Path) -> Volume:
    array, header = nrrd.read(str(path))
    affine = np.eye(4)
    affine[:3, :3] = [v for v in np.array(header["space directions"], dtype=float) if np.isfinite(v).all()]
    affine[:3, :3] = affine[:3, :3].T
    affine[:3, 3] = header.get("space origin", (0, 0, 0))
    signs = {"left": -1, "right": 1, "posterior": -1, "anterior": 1, "superior": 1}
    names = {"L": "left", "R": "right", "A": "anterior", "P": "posterior", "S": "superior"}
    space = header["space"]
    parts = space.split("-") if "-" in space else [names[letter] for letter in space.upper()]
    return array.reshape(SHAPE), np.diag([*(signs[part] for part in parts), 1.0]) @ affine


def by_pynrrd_in_one(path: Path) -> Volume:
    """pynrrd knows no lists of files: their bytes in one."""
    (path.parent / "all.raw").write_bytes(b"".join((path.parent / name).read_bytes() for name in SLICES))
    header = path.read_text().partition("data file: ")[0] + "data file: all.raw\n"
    path.with_name("all.nhdr").write_text(header)
    return by_pynrrd(path.with_name("all.nhdr"))


def by_struct(path: Path) -> Volume:
    """NIfTI-2, which this ITK does not read: its fields by their places in the standard."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.name.endswith(".gz") else content
    order = "<" if content[:4] == struct.pack("<i", 540) else ">"
    (kind,) = struct.unpack_from(f"{order}h", content, 12)
    sides = struct.unpack_from(f"{order}8q", content, 16)
    (start,) = struct.unpack_from(f"{order}q", content, 168)
    codes = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 1024: "i8"}
    dtype = np.dtype(codes[kind]).newbyteorder(order)
    array = np.frombuffer(content, dtype, VOXELS.size, start).reshape(sides[1:4], order="F")
    return array, np.vstack([np.reshape(struct.unpack_from(f"{order}12d", content, 400), (3, 4)), [0, 0, 0, 1]])


META_TYPES = {"CHAR": "i1", "SHORT": "i2", "INT": "i4", "LONG_LONG": "i8", "FLOAT": "f4", "DOUBLE": "f8"}
META_TYPES |= {f"U{name}": kind.replace("i", "u") for name, kind in META_TYPES.items() if kind[0] == "i"}


def by_hand(path: Path) -> Volume:
    """MetaImage in plain Python."""
    content = path.read_bytes()
    head, _, rest = content.partition(b"ElementDataFile")
    name, _, rest = rest.partition(b"\n")
    fields = dict(line.split(" = ") for line in head.decode().strip().split("\n"))
    name = name.decode().strip(" =")
    if name == "LOCAL":
        data = rest
    elif name == "LIST":
        data = b"".join((path.parent / part).read_bytes() for part in rest.decode().split("\n") if part)
    elif "%" in name:
        pattern, first, last, step = name.rsplit(" ", 3)
        numbers = range(int(first), int(last) + 1, int(step))
        data = b"".join((path.parent / (pattern % number)).read_bytes() for number in numbers)
    else:
        data = (path.parent / name).read_bytes()
    if fields.get("CompressedData") == "True":
        data = zlib.decompress(data)
    order = ">" if "True" in (fields.get("BinaryDataByteOrderMSB"), fields.get("ElementByteOrderMSB")) else "<"
    dtype = np.dtype(META_TYPES[fields["ElementType"].removeprefix("MET_")]).newbyteorder(order)
    array = np.frombuffer(data[len(data) - VOXELS.size * dtype.itemsize :], dtype).reshape(SHAPE, order="F")

    def numbers_of(*names: str) -> np.ndarray:
        return np.array(next(fields[each] for each in names if each in fields).split(), float)

    affine = np.eye(4)
    size = int(fields["NDims"])
    matrix = numbers_of("TransformMatrix", "Orientation", "Rotation").reshape(size, size)[:3, :3].T
    affine[:3, :3] = matrix * numbers_of("ElementSpacing", "ElementSize")[:3]
    affine[:3, 3] = numbers_of("Offset", "Position", "Origin")[:3]
    return array, LPS @ affine


def nifti(
    dtype: str = "i2", version: int = 1, affine: np.ndarray = OBLIQUE, order: str = "<", shape: tuple = SHAPE, **fields
) -> bytes:
    kind = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}[version]
    voxels = VOXELS.astype(dtype).reshape(shape)
    image = kind(voxels, affine, kind.header_class(endianness=order), dtype=voxels.dtype)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    for name, value in fields.items():
        image.header[name] = value
    header = bytearray(image.to_bytes())
    if "scl_slope" in fields:  # which nibabel takes for the writer's business
        struct.pack_into("<ff", header, 112, fields["scl_slope"], fields.get("scl_inter", 0))
    return bytes(header)


def as_itk(array: np.ndarray = VOXELS, affine: np.ndarray = OBLIQUE) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetDirection((lps[:3, :3] / spacing).ravel())
    image.SetOrigin(lps[:3, 3])
    return image


def write(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def write_itk(packed: bool = False) -> Callable[[Path], Any]:
    return lambda path: sitk.WriteImage(as_itk(), path, useCompression=packed)


def packed_nifti(**kwargs: Any) -> Callable[[Path], Any]:
    return write(gzip.compress(nifti(**kwargs)))


def extended() -> bytes:
    """A NIfTI with an extension, as AFNI and dcm2niix leave them: its voxels begin later."""
    image = nibabel.Nifti1Image(VOXELS, OBLIQUE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"made of nothing" * 9))
    return image.to_bytes()


VOLUMES: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Volume]]] = {
    **{f"nifti-1 {t}": ("a.nii.gz", packed_nifti(dtype=t), by_itk) for t in WHOLE + REAL},
    **{f"nifti-2 {t}": ("a.nii", write(nifti(t, 2)), by_struct) for t in ("u1", "i2", "i8", "f4", "f8")},
    **{f"nifti-1 big endian {t}": ("a.nii", write(nifti(t, order=">")), by_itk) for t in ("i2", "u2", "f4", "f8")},
    "nifti-2 big endian": ("a.nii.gz", packed_nifti(version=2, order=">"), by_struct),
    "nifti by itk": ("a.nii", write_itk(), by_nibabel),
    "nifti packed by itk": ("a.nii.gz", write_itk(), by_nibabel),
    "nifti scaled": ("a.nii", write(nifti(scl_slope=0.5, scl_inter=-1000)), by_itk),
    "nifti scaled down": ("a.nii", write(nifti(scl_slope=-2.0, scl_inter=8)), by_itk),
    "nifti slope 0": ("a.nii", write(nifti(scl_slope=0.0)), by_itk),
    "nifti qform only": ("a.nii", write(nifti(sform_code=0)), by_itk),
    "nifti sform only": ("a.nii", write(nifti(qform_code=0)), by_itk),
    "nifti radiological": ("a.nii", write(nifti(affine=np.diag([-2.0, 2, 5, 1]))), by_itk),
    "nifti neurological": ("a.nii", write(nifti(affine=RAS)), by_itk),
    "nifti 4D of one": ("a.nii.gz", packed_nifti(shape=(*SHAPE, 1)), by_itk),
    "nifti 5D of one": ("a.nii.gz", packed_nifti(shape=(*SHAPE, 1, 1)), by_itk),
    "nifti, no unit": ("a.nii", write(nifti(xyzt_units=0)), by_itk),
    "nifti, mm and s": ("a.nii", write(nifti(xyzt_units=10)), by_itk),
    "nifti, extension": ("a.nii", write(extended()), by_itk),
    "nifti, bytes behind": ("a.nii", write(nifti() + bytes(99)), by_itk),
    "nifti, plain, name packed": ("a.nii.gz", write(nifti()), by_itk),
    "nifti in two gzip members": (
        "a.nii.gz",
        write(gzip.compress(nifti()[:400]) + gzip.compress(nifti()[400:])),
        by_itk,
    ),
}


def write_nrrd(array: np.ndarray = VOXELS, affine: np.ndarray = OBLIQUE, **fields: Any) -> Callable[[Path], Any]:
    """By pynrrd; the header says which way from the patient's left to right the numbers run."""
    space = fields.setdefault("space", "left-posterior-superior")
    signs = {"left-posterior-superior": (-1, -1, 1), "right-anterior-superior": (1, 1, 1)}
    signs["left-anterior-superior"] = (-1, 1, 1)
    turned = np.diag([*signs[space], 1.0]) @ affine
    directions = turned[:3, :3].T.tolist()
    if array.ndim == 4:
        fields["space directions"] = np.insert(directions, 0 if array.shape[0] == 1 else 3, np.nan, axis=0)
    header = {"space directions": directions, "space origin": turned[:3, 3], "encoding": "gzip"} | fields
    return lambda path: nrrd.write(str(path), array, header)


def nrrd_bytes(ending: str, affine: np.ndarray = OBLIQUE, order: str = "little", data: bytes | None = None) -> bytes:
    lps = LPS @ affine
    directions = " ".join(f"({','.join(map(repr, v.tolist()))})" for v in lps[:3, :3].T)
    text = (
        f"NRRD0004\n# by hand\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 7 6 5\n"
        f"space directions: {directions}\nkinds: domain domain domain\nendian: {order}\nencoding: raw\n"
        f"space origin: ({','.join(map(repr, lps[:3, 3].tolist()))})\n{ending}"
    )
    raw = VOXELS.astype("<i2" if order == "little" else ">i2").tobytes("F")
    return text.encode() + (raw if data is None else data)


def with_files(header: bytes, *names: str) -> Callable[[Path], Any]:
    """A header, and its voxels in one file or an equal part of them in each of several."""

    def make(path: Path) -> None:
        raw = VOXELS.astype("<i2").tobytes("F")
        part = len(raw) // len(names)
        for k, name in enumerate(names):
            (path.parent / name).write_bytes(raw[k * part : (k + 1) * part])
        path.write_bytes(header)

    return make


SLICES = tuple(f"slice{k:02d}.raw" for k in range(5))
SEGMENTS = {"Segment0_ID": "Segment_1", "Segment0_Name": "liver", "Segment0_LabelValue": "3", "Segment0_Layer": "0"}
SEGMENTS |= {"Segment1_ID": "Segment_2", "Segment1_LabelValue": "7", "Segment1_Layer": "0"}
SEGMENTS |= {"Segmentation_MasterRepresentation": "Binary labelmap", "Segmentation_ReferenceImageExtentOffset": "0 0 0"}

VOLUMES |= {
    **{f"nrrd {t}": ("a.nrrd", write_nrrd(VOXELS.astype(t)), by_pynrrd) for t in WHOLE + REAL},
    "nrrd raw": ("a.nrrd", write_nrrd(encoding="raw"), by_pynrrd),
    "nrrd big endian": ("a.nrrd", write(nrrd_bytes("\n", order="big")), by_pynrrd),
    "nrrd RAS": ("a.nrrd", write_nrrd(space="right-anterior-superior"), by_pynrrd),
    "nrrd LAS": ("a.nrrd", write_nrrd(space="left-anterior-superior"), by_pynrrd),
    "nrrd sheared": ("a.nrrd", write_nrrd(affine=SHEARED), by_pynrrd),
    "nrrd, mm": ("a.nrrd", write_nrrd(**{"space units": ["mm", "mm", "mm"]}), by_pynrrd),
    "nrrd, frame of measurement": ("a.nrrd", write_nrrd(**{"measurement frame": np.eye(3)[::-1]}), by_pynrrd),
    "nrrd, list of one first": (
        "a.nrrd",
        write_nrrd(VOXELS[None], kinds=["list", "domain", "domain", "domain"]),
        by_pynrrd,
    ),
    "nrrd, list of one last": (
        "a.nrrd",
        write_nrrd(VOXELS[..., None], kinds=["domain", "domain", "domain", "list"]),
        by_pynrrd,
    ),
    "nrrd, segments in one layer": ("a.seg.nrrd", write_nrrd(VOXELS.astype("u1"), **SEGMENTS), by_pynrrd),
    "nrrd by itk": ("a.nrrd", write_itk(), by_pynrrd),
    "nrrd packed by itk": ("a.nrrd", write_itk(packed=True), by_pynrrd),
    "nhdr, raw": ("a.nhdr", write_nrrd(encoding="raw"), by_pynrrd),
    "nhdr, gzip": ("a.nhdr", write_nrrd(), by_pynrrd),
    "nhdr, a blank in the name": (
        "a.nhdr",
        with_files(nrrd_bytes("data file: a b.raw\n", data=b""), "a b.raw"),
        by_pynrrd,
    ),
    "nhdr, list": (
        "a.nhdr",
        with_files(nrrd_bytes("data file: LIST\n" + "\n".join(SLICES) + "\n", data=b""), *SLICES),
        by_pynrrd_in_one,
    ),
    "nhdr, numbered": (
        "a.nhdr",
        with_files(nrrd_bytes("data file: slice%02d.raw 0 4 1\n", data=b""), *SLICES),
        by_pynrrd_in_one,
    ),
}


def meta_bytes(dtype: str = "<i2", data: bytes | None = None, **fields: str) -> bytes:
    lps = LPS @ OBLIQUE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    kinds = {kind: name for name, kind in META_TYPES.items()}
    values = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(dtype[0] == ">"),
        "TransformMatrix": " ".join(map(repr, (lps[:3, :3] / spacing).T.ravel().tolist())),
        "Offset": " ".join(map(repr, lps[:3, 3].tolist())),
        "ElementSpacing": " ".join(map(repr, spacing.tolist())),
        "DimSize": "7 6 5",
        "ElementType": f"MET_{kinds[dtype[1:]]}",
    }
    for name, value in fields.items():  # an old name moves a value to another field
        values[name] = values.pop(value) if value in values else value
    data_file = values.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{name} = {value}\n" for name, value in values.items()) + f"ElementDataFile = {data_file}\n"
    return text.encode() + (VOXELS.astype(dtype).tobytes("F") if data is None else data)


VOLUMES |= {
    **{f"metaimage {t}": ("a.mha", write(meta_bytes(f"<{t}")), by_hand) for t in WHOLE + REAL},
    "metaimage big endian": ("a.mha", write(meta_bytes(">i2")), by_hand),
    "metaimage Orientation": ("a.mha", write(meta_bytes(Orientation="TransformMatrix")), by_hand),
    "metaimage Rotation": ("a.mha", write(meta_bytes(Rotation="TransformMatrix")), by_hand),
    "metaimage Position": ("a.mha", write(meta_bytes(Position="Offset")), by_hand),
    "metaimage Origin": ("a.mha", write(meta_bytes(Origin="Offset")), by_hand),
    "metaimage ElementSize": ("a.mha", write(meta_bytes(ElementSize="ElementSpacing")), by_hand),
    "metaimage, larger voxels": ("a.mha", write(meta_bytes(ElementSize="9 9 9")), by_hand),
    "metaimage, mm": ("a.mha", write(meta_bytes(DistanceUnits="mm")), by_hand),
    "metaimage by itk": ("a.mha", write_itk(), by_hand),
    "metaimage packed by itk": ("a.mha", write_itk(packed=True), by_hand),
    "mhd by itk": ("a.mhd", write_itk(), by_hand),
    "mhd packed by itk": ("a.mhd", write_itk(packed=True), by_hand),
    "mhd, a blank in the name": (
        "a.mhd",
        with_files(meta_bytes(data=b"", ElementDataFile="a b.raw"), "a b.raw"),
        by_hand,
    ),
    "mhd, an umlaut": (
        "a.mhd",
        with_files(meta_bytes(data=b"", ElementDataFile="Schädel.raw"), "Schädel.raw"),
        by_hand,
    ),
    "mhd, list": (
        "a.mhd",
        with_files(meta_bytes(data="\n".join([*SLICES, ""]).encode(), ElementDataFile="LIST"), *SLICES),
        by_hand,
    ),
    "mhd, numbered": (
        "a.mhd",
        with_files(meta_bytes(data=b"", ElementDataFile="slice%02d.raw 0 4 1"), *SLICES),
        by_hand,
    ),
    "mhd, header skipped": (
        "a.mhd",
        lambda path: (
            path.with_name("a.raw").write_bytes(b"header" + VOXELS.astype("<i2").tobytes("F")),
            path.write_bytes(meta_bytes(data=b"", HeaderSize="-1", ElementDataFile="a.raw")),
        ),
        by_hand,
    ),
}


@pytest.mark.parametrize("case", VOLUMES)
def test_two_readers_agree_on_voxels_and_geometry(tmp_path, case):
    name, make, other = VOLUMES[case]
    path = tmp_path / name
    make(path)
    voxels, affine = other(path)
    found, meta = VolumeReader().get_data((path,))
    assert found.flags.c_contiguous and found.dtype.isnative
    np.testing.assert_array_equal(found, voxels)
    np.testing.assert_allclose(meta["affine"], affine, atol=1e-4)  # NIfTI holds 32 bits, and a quaternion of a qform
    if "scaled" not in case:
        np.testing.assert_array_equal(found, VOXELS)
    if not any(word in case for word in ("sheared", "radio", "neuro")):
        np.testing.assert_allclose(meta["affine"], OBLIQUE, atol=1e-4)
    shape, from_header = read_geometry(str(path))
    assert shape == SHAPE
    np.testing.assert_array_equal(from_header, meta["affine"])
    np.testing.assert_array_equal(LoadImage(reader=VolumeReader)(path).numpy(), voxels)  # as PyTorch has it


def test_a_nifti_packed_under_a_plain_name(tmp_path):
    (tmp_path / "a.nii").write_bytes(gzip.compress(nifti()))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti()))
    voxels, affine = by_itk(tmp_path / "b.nii.gz")
    found, meta = VolumeReader().get_data((tmp_path / "a.nii",))
    np.testing.assert_array_equal(found, voxels)
    np.testing.assert_allclose(meta["affine"], affine, atol=1e-4)
    assert read_geometry(str(tmp_path / "a.nii"))[0] == SHAPE


def test_detached_nrrd_with_an_umlaut(tmp_path):
    """pynrrd reads headers as ASCII."""
    with_files(nrrd_bytes("data file: Schädel.raw\n", data=b""), "Schädel.raw")(tmp_path / "a.nhdr")
    np.testing.assert_array_equal(VolumeReader().get_data((tmp_path / "a.nhdr",))[0], VOXELS)


COLOUR = RNG.integers(0, 256, (40, 60, 3), np.uint8)
GREY = COLOUR[..., 0]
SMOOTH = np.asarray(Image.fromarray(COLOUR).resize((300, 200), Image.Resampling.BICUBIC))
PALETTE = RNG.integers(0, 256, (256, 3), np.uint8)
DEEP = RNG.integers(0, 4096, (40, 60)).astype(np.uint16)


def by_opencv(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]


def by_tifffile(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        array = page.asarray()
        if page.photometric == 0:
            array = ~array
        if array.dtype == bool:
            array = array * np.uint8(255)
        if page.photometric == 3:
            array = (page.colormap[:, array] >> 8).astype(np.uint8)
        if page.planarconfig == 2 or page.photometric == 3:
            array = np.moveaxis(array, 0, -1)
    return array[..., :3] if array.ndim == 3 and array.shape[2] > 2 else _three(array)


def _three(array: np.ndarray) -> np.ndarray:
    grey = array[..., 0] if array.ndim == 3 else array
    return np.repeat(grey[..., None], 3, axis=2)


def png(pixels: np.ndarray, bits: int, colour: int, chunks: bytes = b"") -> bytes:
    """Samples ``(H, W)`` or ``(H, W, C)`` as a PNG of this depth and colour type."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    if bits < 8:
        rows = [
            np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, -bits:]).tobytes() for row in pixels
        ]
    else:
        rows = [row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels]
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour, 0, 0, 0)
    palette = chunk(b"PLTE", PALETTE[: 1 << bits].tobytes()) if colour == 3 else b""
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + chunks + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bmp(data: bytes, bits: int, height: int = 40, packing: int = 0, masks: bytes = b"", colours: int = 0) -> bytes:
    palette = np.pad(PALETTE[:colours, ::-1], ((0, 0), (0, 1))).tobytes()
    start = 54 + len(masks) + len(palette)
    head = struct.pack("<IHHI", start + len(data), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, 60, height, 1, bits, packing, len(data), 2835, 2835, colours, 0)
    return b"BM" + head + info + masks + palette + data


def nibbles() -> bytes:
    rows = [np.packbits(np.unpackbits((row % 16)[:, None], axis=1)[:, -4:]).tobytes() for row in GREY[::-1]]
    return b"".join(row.ljust(32, b"\0") for row in rows)


def runs() -> bytes:
    return b"".join(b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in GREY[::-1]) + b"\0\1"


def pillow(pixels: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], Any]:
    picture = Image.fromarray(pixels)
    return lambda path: (picture.convert(mode) if mode else picture).save(path, **options)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def tiff(pixels: np.ndarray, **options: Any) -> Callable[[Path], Any]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


OPAQUE = np.full_like(GREY, 255)
PICTURES: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], np.ndarray]]] = {
    **{f"png grey {b}": ("a.png", write(png(GREY & ((1 << b) - 1), b, 0)), by_opencv) for b in (1, 2, 4, 8)},
    **{f"png palette {b}": ("a.png", write(png(GREY & ((1 << b) - 1), b, 3)), by_opencv) for b in (1, 2, 4, 8)},
    "png colour": ("a.png", write(png(COLOUR, 8, 2)), by_opencv),
    "png colour, alpha": ("a.png", write(png(np.dstack([COLOUR, OPAQUE]), 8, 6)), by_opencv),
    "png grey, alpha": ("a.png", write(png(np.dstack([GREY, OPAQUE]), 8, 4)), by_opencv),
    "png by opencv": ("a.png", lambda path: cv2.imwrite(str(path), COLOUR), by_opencv),
    "png turned": ("a.png", pillow(COLOUR, exif=turned(6)), by_opencv),
    "jpeg 4:2:0": ("a.jpg", pillow(SMOOTH, quality=95, subsampling=2), by_opencv),
    "jpeg 4:4:4": ("a.jpg", pillow(SMOOTH, quality=95, subsampling=0), by_opencv),
    "jpeg progressive": ("a.jpg", pillow(SMOOTH, quality=95, progressive=True), by_opencv),
    "jpeg grey": ("a.jpeg", pillow(SMOOTH[..., 0], quality=95), by_opencv),
    "jpeg CMYK": ("a.jpg", pillow(SMOOTH, "CMYK", quality=95), by_opencv),
    "jpeg by opencv": ("a.jpg", lambda path: cv2.imwrite(str(path), SMOOTH), by_opencv),
    **{f"jpeg turned {k}": ("a.jpg", pillow(SMOOTH, quality=95, exif=turned(k)), by_opencv) for k in range(1, 9)},
    "tiff colour": ("a.tif", tiff(COLOUR, photometric="rgb"), by_tifffile),
    "tiff grey": ("a.tif", tiff(GREY), by_tifffile),
    "tiff white is zero": ("a.tif", tiff(GREY, photometric="miniswhite"), by_tifffile),
    "tiff of bits": ("a.tif", tiff(GREY > 127), by_tifffile),
    "tiff palette": (
        "a.tif",
        tiff(GREY, photometric="palette", colormap=PALETTE.T.astype(np.uint16) * 257),
        by_tifffile,
    ),
    "tiff planes": ("a.tif", tiff(np.moveaxis(COLOUR, 2, 0), photometric="rgb", planarconfig="separate"), by_tifffile),
    "tiff tiles": ("a.tif", tiff(np.tile(COLOUR, (4, 3, 1)), photometric="rgb", tile=(32, 48)), by_tifffile),
    "tiff strips": ("a.tif", tiff(COLOUR, photometric="rgb", rowsperstrip=7), by_tifffile),
    "tiff deflate": ("a.tif", tiff(COLOUR, photometric="rgb", compression="zlib"), by_tifffile),
    "tiff lzw": ("a.tif", pillow(COLOUR, compression="tiff_lzw"), by_opencv),
    "tiff packbits": ("a.tif", pillow(COLOUR, compression="packbits"), by_opencv),
    "tiff jpeg": ("a.tif", pillow(SMOOTH, compression="jpeg", quality=95), by_opencv),
    "tiff fax": ("a.tif", pillow(GREY > 127, compression="group4"), by_opencv),
    "tiff big endian": ("a.tif", tiff(COLOUR, photometric="rgb", byteorder=">"), by_tifffile),
    "bigtiff": ("a.tif", tiff(COLOUR, photometric="rgb", bigtiff=True), by_tifffile),
    "tiff alpha": (
        "a.tif",
        tiff(np.dstack([COLOUR, OPAQUE]), photometric="rgb", extrasamples=["unassalpha"]),
        by_tifffile,
    ),
    "tiff alpha, multiplied": (
        "a.tif",
        tiff(np.dstack([COLOUR, OPAQUE]), photometric="rgb", extrasamples=["assocalpha"]),
        by_tifffile,
    ),
    "tiff grey, alpha": (
        "a.tif",
        tiff(np.dstack([GREY, OPAQUE]), photometric="minisblack", extrasamples=["unassalpha"]),
        by_tifffile,
    ),
    "tiff CMYK": ("a.tif", pillow(COLOUR, "CMYK"), by_opencv),
    "tiff turned 3": (
        "a.tif",
        tiff(COLOUR, photometric="rgb", extratags=[(274, "H", 1, 3, True)]),
        lambda path: by_tifffile(path)[::-1, ::-1],
    ),
    "tiff turned 6": (
        "a.tif",
        tiff(COLOUR, photometric="rgb", extratags=[(274, "H", 1, 6, True)]),
        lambda path: np.rot90(by_tifffile(path), -1),
    ),
    "bmp 1": ("a.bmp", pillow(GREY > 127), by_opencv),
    "bmp 4, palette": ("a.bmp", write(bmp(nibbles(), 4, colours=16)), by_opencv),
    "bmp 8, palette": ("a.bmp", write(bmp(GREY[::-1].tobytes(), 8, colours=256)), by_opencv),
    "bmp 8, runs": ("a.bmp", write(bmp(runs(), 8, packing=1, colours=256)), by_opencv),
    "bmp 8, grey": ("a.bmp", pillow(GREY), by_opencv),
    "bmp 24": ("a.bmp", lambda path: cv2.imwrite(str(path), COLOUR), by_opencv),
    "bmp 24, top first": ("a.bmp", write(bmp(COLOUR[..., ::-1].tobytes(), 24, height=-40)), by_opencv),
    "bmp 32": ("a.bmp", write(bmp(np.dstack([COLOUR[::-1, :, ::-1], OPAQUE * 0]).tobytes(), 32)), by_opencv),
}


@pytest.mark.parametrize("case", PICTURES)
def test_two_readers_agree_on_pixels(tmp_path, case):
    name, make, other = PICTURES[case]
    path = tmp_path / name
    make(path)
    found, meta = PictureReader().get_data((path,))
    expected = other(path)
    assert found.dtype == np.uint8 and tuple(meta["spatial_shape"]) == expected.shape[:2] == found.shape[:2]
    # decoders of JPEG, and ways from CMYK to RGB, may differ in rounding
    np.testing.assert_allclose(found.astype(int), expected, atol=2 if "jpeg" in case or "CMYK" in case else 0)


@pytest.mark.parametrize(("bits", "packing"), [(15, 0), (16, 3)])
def test_bmp_of_16_bits(tmp_path, bits, packing):
    """OpenCV leaves the lowest bits empty, so that white is 248: by hand."""
    values = RNG.integers(0, 1 << bits, (40, 60)).astype("<u2")
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F) if packing else b""
    (tmp_path / "a.bmp").write_bytes(bmp(values[::-1].tobytes(), 16, packing=packing, masks=masks))
    green = 6 if packing else 5
    parts = [(values >> (5 + green)) / 31, ((values >> 5) & (2**green - 1)) / (2**green - 1), (values & 31) / 31]
    found, _ = PictureReader().get_data((tmp_path / "a.bmp",))
    np.testing.assert_allclose(found, 255 * np.stack(parts, axis=-1), atol=1)


# values that a mask may hold, as they are stored
MASKS = {
    "png 8": ("a.png", write(png(GREY, 8, 0))),
    "png 16": ("a.png", write(png(DEEP % 200, 16, 0))),
    "png palette": ("a.png", write(png(GREY, 8, 3))),
    "png palette of 4 bits": ("a.png", write(png(GREY % 16, 4, 3))),
    "tiff 8": ("a.tif", tiff(GREY)),
    "tiff 16": ("a.tif", tiff(DEEP % 200)),
    "tiff 16, big endian": ("a.tif", tiff(DEEP % 200, byteorder=">")),
    "tiff signed 16": ("a.tif", tiff((DEEP % 200).astype(np.int16))),
    "tiff 32": ("a.tif", tiff((DEEP % 200).astype(np.uint32))),
    "tiff signed 32": ("a.tif", tiff((DEEP % 200).astype(np.int32))),
    "tiff real": ("a.tif", tiff((DEEP % 200).astype(np.float32))),
    "bmp 8": ("a.bmp", pillow(GREY)),
    "bmp palette": ("a.bmp", write(bmp(GREY[::-1].tobytes(), 8, colours=256))),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_are_read_as_they_are_stored(tmp_path, case):
    name, make = MASKS[case]
    make(tmp_path / name)
    if name.endswith(".tif"):
        stored = tifffile.imread(tmp_path / name)
    elif "palette" in case:
        stored = GREY % 16 if "4 bits" in case else GREY  # OpenCV gives the colours
    else:
        stored = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
    mask, _ = MaskReader("classes", 256).get_data((tmp_path / name,))
    np.testing.assert_array_equal(mask, stored)


DEEP_COLOUR = np.dstack([DEEP, DEEP // 2, DEEP // 3])
REFUSED = {
    "png colour 16": ("a.png", write(png(DEEP_COLOUR, 16, 2)), "16 bits a channel"),
    "png colour and alpha 16": ("a.png", write(png(np.dstack([DEEP_COLOUR, DEEP]), 16, 6)), "16 bits a channel"),
    "png grey and alpha 16": ("a.png", write(png(np.dstack([DEEP, DEEP]), 16, 4)), "16 bits a channel"),
    "tiff colour 16": ("a.tif", tiff(DEEP_COLOUR, photometric="rgb"), "16 bits a channel"),
    "tiff colour 16, planes": (
        "a.tif",
        tiff(np.moveaxis(DEEP_COLOUR, 2, 0), photometric="rgb", planarconfig="separate"),
        "16 bits a channel",
    ),
    "tiff colour 16 by itk": (
        "a.tif",
        lambda path: sitk.WriteImage(sitk.GetImageFromArray(DEEP_COLOUR, isVector=True), path),
        "16 bits a channel",
    ),
    "tiff colour, real": (
        "a.tif",
        tiff(DEEP_COLOUR.astype(np.float32), photometric="rgb"),
        "or no picture of a kind that is read",
    ),
    "tiff 64": ("a.tif", tiff(GREY.astype(np.float64)), "or no picture of a kind that is read"),
    "tiff signed 8": ("a.tif", tiff(GREY.astype(np.int8)), "signed values of 8 bits"),
    "tiff white is zero, 16": ("a.tif", tiff(DEEP, photometric="miniswhite"), "16 bits"),
    "tiff of two greys": (
        "a.tif",
        tiff(np.dstack([GREY, GREY]), photometric="minisblack", planarconfig="contig"),
        "2 channels, of which 1 without a meaning",
    ),
    "tiff of four colours": (
        "a.tif",
        tiff(np.dstack([COLOUR, GREY]), photometric="rgb", extrasamples=["unspecified"]),
        "4 channels, of which 1 without a meaning",
    ),
    "tiff pages": ("a.tif", tiff(np.stack([COLOUR] * 3), photometric="rgb"), "3 pages, expected one"),
    "png pages": (
        "a.png",
        lambda path: Image.fromarray(GREY).save(path, save_all=True, append_images=[Image.fromarray(GREY[::-1])]),
        "2 pages, expected one",
    ),
    "transparent": ("a.png", write(png(np.dstack([COLOUR, GREY]), 8, 6)), "transparent pixels"),
    "a web page": ("a.png", write(b"<!DOCTYPE html><p>Sign in"), "is a web page, not the file"),
    "a note of macOS": ("._a.png", write(b"\0\5\x16\7" + bytes(300)), "is a note of macOS"),
}


@pytest.mark.parametrize("reader", [PictureReader(), MaskReader("classes", 2)], ids=["image", "mask"])
@pytest.mark.parametrize("case", REFUSED)
def test_pictures_that_a_library_would_convert_are_refused(tmp_path, case, reader):
    name, make, message = REFUSED[case]
    make(tmp_path / name)
    with pytest.raises(ValueError, match=f"monai_ext: .*{name}: .*{message}"):
        reader.get_data((tmp_path / name,))


@pytest.mark.parametrize("case", ["grey 16", "tiff signed 16", "tiff real", "CIELab"])
def test_images_deeper_than_8_bits_are_refused(tmp_path, case):
    pixels = {"grey 16": DEEP, "tiff signed 16": DEEP.astype(np.int16), "tiff real": DEEP.astype(np.float32)}
    options = {"photometric": "cielab"} if case == "CIELab" else {}
    tifffile.imwrite(tmp_path / "a.tif", pixels.get(case, COLOUR), **options)
    with pytest.raises(ValueError, match=r"a\.tif: (16|32) bits a channel, expected 8|a\.tif: pixels of mode LAB"):
        PictureReader().get_data((tmp_path / "a.tif",))


def test_a_corpus_of_this_size():
    assert len(VOLUMES) >= 60 and len(PICTURES) + len(MASKS) >= 50
