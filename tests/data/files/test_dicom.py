# SPDX-License-Identifier: Apache-2.0
"""One policy for DICOM: some twenty series through every way in, held against what was written and a second reader."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from monai_ext.apps.label.dicom_studies import SeriesFolders
from monai_ext.data import VolumeReader, check_pair, find_images, read_geometry
from monai_ext.data.files.dicom import find_series, pixels, read_volume, select_series
from tests.apps.series import compress, edit, make_multi_frame, tilt
from tests.data.volumes import rotation
from tests.dicom import write_by_gdcm, write_ct_series

SHAPE = (40, 36, 7)
AXIAL = rotation(20) @ np.diag([-0.8, -0.9, 2.5, 1.0])
SAGITTAL = AXIAL[:, [1, 2, 0, 3]]
CORONAL = AXIAL[:, [0, 2, 1, 3]]


def ct(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Smooth, in Hounsfield units, and in no two places alike; what lossy compression keeps."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.round(700 * np.sin(2 * x + y) + 500 * y * z - 100 * x + 90 * z).astype(np.int16)


def each(syntax: UID) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob("*.dcm"):
            write_by_gdcm(path, syntax)

    return change


def rewritten(syntax: UID) -> Callable[[Path], None]:
    """Native pixels in another syntax."""

    def change(folder: Path) -> None:
        for path in folder.glob("*.dcm"):
            ds = pydicom.dcmread(path)
            if syntax == ExplicitVRBigEndian:
                ds.PixelData = ds.pixel_array.astype(">i2").tobytes()
            ds.file_meta.TransferSyntaxUID = syntax
            new = pydicom.FileDataset(None, dict(ds), file_meta=ds.file_meta, preamble=b"\0" * 128)
            pydicom.dcmwrite(path, new, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)

    return change


def raw(folder: Path) -> None:
    """Without preamble and meta header, under names that say nothing."""
    for k, path in enumerate(sorted(folder.glob("*.dcm"))):
        content = path.read_bytes()
        (folder / f"1.2.826.{k}").write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
        path.unlink()


def own_slopes(folder: Path) -> None:
    """As PET and some MR have it; 12 bits without a sign, rubbish above them."""

    def change(ds: Dataset) -> None:
        values = ds.pixel_array.astype(np.float64) - 1024
        slope, intercept = 0.5 + 0.25 * ds.InstanceNumber, -1500.0 - ds.InstanceNumber
        stored = np.round((values - intercept) / slope).clip(0, 4095).astype(np.uint16)
        ds.PixelData = (stored | np.uint16(0x7000)).tobytes()
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0

    edit(folder, change)


def other_first(folder: Path) -> None:
    """Compressed, and the first slice alone has whole slopes: its type must not be that of all."""
    edit(folder, lambda ds: setattr(ds, "RescaleSlope", 1 if ds.InstanceNumber == 1 else 1.25))
    compress(folder, RLELossless)


def backwards(folder: Path) -> None:
    """Files and numbers run against the patient."""
    paths = sorted(folder.glob("*.dcm"))
    edit(folder, lambda ds: setattr(ds, "InstanceNumber", 100 - ds.InstanceNumber))
    for path, letter in zip(paths, "gfedcba"):
        path.rename(folder / f"{letter}.dcm")


def rounded(folder: Path) -> None:
    """Thin slices whose places have one decimal: steps of 0.2 and 0.3 mm."""

    def change(ds: Dataset) -> None:
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-10, -20, f"{round(0.25 * ds.InstanceNumber + 1e-9, 1):.1f}"]

    edit(folder, change)


def crowded(folder: Path) -> None:
    """What lies beside slices: a structure set, a report, a SEG, a second copy, dot files, others' files."""
    first = sorted(folder.glob("*.dcm"))[0]
    shutil.copy(first, folder / "copy of it.dcm")
    (folder / "._slice000.dcm").write_bytes(b"\0\5\x16\7" * 20)
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "readme.txt").write_text("CT of the phantom")
    for modality, kind in (
        ("RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3"),
        ("SR", "1.2.840.10008.5.1.4.1.1.88.33"),
        ("PR", "1.2.840.10008.5.1.4.1.1.11.1"),
        ("SEG", "1.2.840.10008.5.1.4.1.1.66.4"),
    ):
        ds = pydicom.dcmread(first)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = kind
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        ds.Modality, ds.SeriesInstanceUID = modality, pydicom.uid.generate_uid()
        if modality != "SEG":
            del ds.PixelData, ds.Rows, ds.Columns
        ds.save_as(folder / f"{modality}.dcm")


def overview(folder: Path) -> None:
    """A localiser under the same Series Instance UID, told by its Image Type."""
    ds = pydicom.dcmread(sorted(folder.glob("*.dcm"))[0])
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    ds.ImageType, ds.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [1, 0, 0, 0, 0, -1]
    ds.save_as(folder / "overview.dcm")


def lacking(*names: str) -> Callable[[Path], None]:
    def change(ds: Dataset) -> None:
        for name in names:
            delattr(ds, name)

    return lambda folder: edit(folder, change)


def with_value(**values: object) -> Callable[[Path], None]:
    def change(ds: Dataset) -> None:
        for name, value in values.items():
            setattr(ds, name, value)

    return lambda folder: edit(folder, change)


def plain(folder: Path) -> None:
    pass


def both(*makers: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for maker in makers:
            maker(folder)

    return change


#: name -> affine, maker, how far a value may be from the one written
SERIES: dict[str, tuple[np.ndarray, Callable[[Path], None], float]] = {
    "axial": (AXIAL, plain, 0),
    "sagittal": (SAGITTAL, plain, 0),
    "coronal": (CORONAL, plain, 0),
    "from head to feet": (AXIAL @ np.diag([1.0, 1.0, -1.0, 1.0]), plain, 0),
    "prone": (AXIAL @ np.diag([-1.0, -1.0, 1.0, 1.0]), plain, 0),
    "backwards": (AXIAL, backwards, 0),
    "implicit": (AXIAL, rewritten(ImplicitVRLittleEndian), 0),
    "big endian": (AXIAL, rewritten(ExplicitVRBigEndian), 0),
    "deflated": (AXIAL, rewritten(DeflatedExplicitVRLittleEndian), 0),
    "raw": (AXIAL, raw, 0),
    "RLE": (AXIAL, lambda folder: compress(folder, RLELossless), 0),
    "JPEG lossless": (AXIAL, each(JPEGLossless), 0),
    "JPEG lossless SV1": (AXIAL, each(JPEGLosslessSV1), 0),
    "JPEG-LS": (AXIAL, lambda folder: compress(folder, JPEGLSLossless), 0),
    "JPEG-LS near-lossless": (AXIAL, lambda folder: _near(folder), 2),
    "JPEG 2000": (AXIAL, lambda folder: compress(folder, JPEG2000Lossless), 0),
    "JPEG 2000 by GDCM": (AXIAL, each(JPEG2000Lossless), 0),
    "slopes of their own": (AXIAL, own_slopes, 1.2),
    "multi-frame": (AXIAL, make_multi_frame, 0),
    "multi-frame, coronal, RLE": (CORONAL, both(make_multi_frame, lambda f: compress(f, RLELossless)), 0),
    "multi-frame, JPEG-LS": (AXIAL, both(make_multi_frame, lambda f: compress(f, JPEGLSLossless)), 0),
    "crowded": (AXIAL, crowded, 0),
    "with a localiser": (AXIAL, overview, 0),
    "MONOCHROME1": (AXIAL, with_value(PhotometricInterpretation="MONOCHROME1"), 0),
    "empty UIDs": (AXIAL, with_value(SeriesInstanceUID="", StudyInstanceUID=""), 0),
    "no thickness": (AXIAL, lacking("SliceThickness", "StudyInstanceUID", "PatientID"), 0),
    "Japanese": (AXIAL, with_value(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Y^T=山田^太郎"), 0),
}


def _near(folder: Path) -> None:
    edit(folder, lambda ds: ds.compress(JPEGLSNearLossless, jls_error=2, generate_instance_uid=False))


def upright(affine: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slices follow the cross product of DICOM's row and column, which may turn the third axis."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    if np.linalg.det(lps[:3, :3]) > 0:
        return affine, image
    turned = affine.copy()
    turned[:3, 3] += (image.shape[2] - 1) * turned[:3, 2]
    turned[:3, 2] *= -1
    return turned, image[..., ::-1]


def ways_in(folder: Path, scratch: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Voxels and affine of a series as each command reads it."""
    found = {}
    (case,) = find_images(folder.parent)  # segment
    assert case["image"] == str(folder)
    array, meta = VolumeReader().get_data((case["image"],))
    found["VolumeReader"] = np.asarray(array), meta["affine"]
    label = scratch / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(array.shape, np.uint8), meta["affine"]), label)
    check_pair({"image": str(folder), "label": str(label), "case_id": "a"})  # datasets check, training
    shape, affine = read_geometry(str(folder))
    assert shape == array.shape
    found["read_geometry"] = array, affine
    volume = read_volume(select_series(find_series(folder.parent), "CT"))  # Deploy
    found["Deploy"] = volume.array, volume.affine
    (written,) = SeriesFolders(folder.parent).convert(settled=0)[0]  # Label
    image = nibabel.load(written)
    found["Label"] = np.asarray(image.dataobj), image.affine
    return found


@pytest.mark.parametrize("name", SERIES)
def test_every_way_in_reads_what_was_written(name, tmp_path):
    affine, maker, off = SERIES[name]
    folder = tmp_path / "studies" / "ct"
    write_ct_series(folder, ct(), affine)
    maker(folder)
    affine, image = upright(affine, ct())
    for way, (array, found) in ways_in(folder, tmp_path).items():
        assert array.dtype == np.float32, way
        np.testing.assert_allclose(array, image, atol=off, rtol=0, err_msg=way)
        np.testing.assert_allclose(found, affine, atol=1e-5, err_msg=way)


BY_ITK = [name for name in SERIES if name not in ("raw", "crowded", "with a localiser", "MONOCHROME1")]


@pytest.mark.parametrize("name", [*BY_ITK, "whole first slope", "tilted", "rounded"])
def test_a_second_reader_agrees_slice_by_slice(name, tmp_path):
    """GDCM, through SimpleITK, reads each file on its own: values, and where the slice lies."""
    extra = {"whole first slope": other_first, "tilted": lambda folder: tilt(folder, 15), "rounded": rounded}
    affine, maker, _ = SERIES[name] if name in SERIES else (AXIAL, extra[name], 0)
    write_ct_series(tmp_path, ct(), affine)
    maker(tmp_path)
    array, meta = VolumeReader().get_data((str(tmp_path),))
    inverse = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ meta["affine"])
    seen = set()
    for path in sorted(tmp_path.glob("*.dcm")):
        image = sitk.ReadImage(path, imageIO="GDCMImageIO")
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        groups = ds.get("PerFrameFunctionalGroupsSequence", [])
        places = [group.PlanePositionSequence[0].ImagePositionPatient for group in groups] or [image.GetOrigin()]
        for plane, place in zip(sitk.GetArrayFromImage(image), places, strict=True):
            x, y, z = (inverse @ [*map(float, place), 1.0])[:3]
            # rounding to one decimal is 0.05 mm, a fifth of a slice of 0.25 mm
            np.testing.assert_allclose([x, y, z - round(z)], 0, atol=0.25 if name == "rounded" else 1e-3)
            np.testing.assert_array_equal(array[:, :, round(z)].T, plane.astype(np.float32))
            seen.add(round(z))
    assert seen == set(range(SHAPE[2]))


def test_a_tilted_series_is_the_sheared_volume(tmp_path):
    folder = tmp_path / "studies" / "ct"
    write_ct_series(folder, ct(), AXIAL)
    tilt(folder, 20)
    affine = AXIAL.copy()
    affine[:3, 2] += np.tan(np.deg2rad(20)) * 2.5 * AXIAL[:3, 1] / 0.9  # along the columns
    affine[:3, 3] = AXIAL[:3, 3]
    for way, (array, found) in ways_in(folder, tmp_path).items():
        np.testing.assert_array_equal(array, ct(), err_msg=way)
        np.testing.assert_allclose(found, affine, atol=1e-5, err_msg=way)


def test_geometry_is_read_without_voxels(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "data_set", None)
    write_ct_series(tmp_path, ct(), AXIAL)
    shape, affine = read_geometry(str(tmp_path))
    assert shape == SHAPE
    np.testing.assert_allclose(affine, AXIAL, atol=1e-6)


def remove_one(folder: Path) -> None:
    (folder / "slice003.dcm").unlink()


def again(folder: Path) -> None:
    """A second phase of every slice, under the same series."""
    for path in sorted(folder.glob("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        ds.save_as(folder / f"again_{path.name}")


def one(name: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        ds = pydicom.dcmread(folder / name)
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        ds.save_as(folder / name)

    return change


def shifted(folder: Path) -> None:
    """The patient moved by 3 mm to the side in the middle of the scan."""

    def change(ds: Dataset) -> None:
        if ds.InstanceNumber > 3:
            ds.ImagePositionPatient = [
                float(v) + 3 * float(w) for v, w in zip(ds.ImagePositionPatient, ds.ImageOrientationPatient[:3])
            ]

    edit(folder, change)


def cut_off(folder: Path) -> None:
    path = folder / "slice004.dcm"
    path.write_bytes(path.read_bytes()[:-700])


def cut_before_pixels(folder: Path) -> None:
    path = folder / "slice006.dcm"
    path.write_bytes(path.read_bytes()[: -SHAPE[0] * SHAPE[1] * 2 - 12])


def enhanced_without_places(folder: Path) -> None:
    make_multi_frame(folder)
    edit(folder, lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"))


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "gap": (remove_one, r"1 slice\(s\) missing: 5 mm between slices 3 and 4 of 6 \(images 3 and 5\)"),
    "phases": (again, "up to 2 images lie at one place: several phases"),
    "sizes": (one("slice003.dcm", Rows=20), "36x40 and 20x40 pixels: the series is mixed"),
    "orientations": (one("slice003.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "different orientations"),
    "spacings": (one("slice003.dcm", PixelSpacing=[2, 2]), "the series is mixed"),
    "frames of reference": (one("slice003.dcm", FrameOfReferenceUID="1.2.3"), "different frames of reference"),
    "moved": (shifted, r"the slices do not lie on one line: image \d is .* mm beside it"),
    "no position": (lacking("ImagePositionPatient"), r"has no Image Position \(Patient\), so where it lies"),
    "empty position": (with_value(ImagePositionPatient=None), r"has no Image Position \(Patient\), so where it lies"),
    "no spacing": (lacking("PixelSpacing"), "has no Pixel Spacing, so where it lies"),
    "two patients": (one("slice003.dcm", PatientID="other"), r"images of 2 patients \(their IDs: OTHER, PHANTOM\)"),
    "no Hounsfield units": (lacking("RescaleSlope", "RescaleIntercept"), "has no Rescale Slope and Intercept"),
    "iodine": (with_value(RescaleType="MGML"), "its values are in MGML, no Hounsfield units"),
    "projection": (with_value(ImageType=["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"]), "image type MIP, PROJ"),
    "reformat": (with_value(ImageType=["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]), "image type AVERAGE, REFO"),
    "scout": (with_value(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "image type LOCALIZER"),
    "cut off": (cut_off, r"slice004\.dcm: cannot be read \(\d+ bytes of pixels promised"),
    "cut before the pixels": (cut_before_pixels, r"slice006\.dcm: cannot be read .* damaged or cut off"),
    "colour": (with_value(SamplesPerPixel=3, Rows=12), r"colour \(3 values per pixel\), expected one"),
    "frames without places": (enhanced_without_places, "7 frames that do not say where they lie"),
    "voxels of no scanner": (with_value(PixelSpacing=[1e-5, 1e-5]), "voxels of 1e-05x1e-05x2.5 mm are of no scanner"),
    "JPEG of 12 bits": (
        lambda folder: _claimed(folder, JPEGExtended12Bit),
        "compressed as JPEG Extended .* no decoder is installed.*pylibjpeg-libjpeg, under the GPL",
    ),
    "MPEG": (lambda folder: _claimed(folder, "1.2.840.10008.1.2.4.100"), "which no decoder reads"),
}


def _claimed(folder: Path, syntax: str) -> None:
    compress(folder, RLELossless)
    edit(folder, lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", syntax))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_everywhere_with_the_same_words(name, tmp_path, caplog):
    damage, reason = REFUSED[name]
    folder = tmp_path / "studies" / "ct"
    write_ct_series(folder, ct(), AXIAL)
    damage(folder)
    messages = []
    for read in (
        lambda: VolumeReader().get_data((str(folder),)),
        lambda: read_volume(select_series(find_series(folder), "CT")),
    ):
        with pytest.raises(ValueError, match=reason) as e:
            read()
        messages.append(str(e.value))
    assert SeriesFolders(folder.parent).convert(settled=0)[0] == []
    messages.append(caplog.messages[-1].removesuffix(" Left out."))
    assert messages[0] == messages[2]
    for message in messages:
        assert message.startswith(f"monai_ext: {folder}")
        assert "attribute" not in message
        assert "\n" not in message
    if name not in ("colour", "MPEG", "JPEG of 12 bits"):  # of pixels headers tell nothing
        with pytest.raises(ValueError, match=reason):
            read_geometry(str(folder))


def test_localisers_without_a_word_are_told_by_orientation_or_size(tmp_path, caplog):
    write_ct_series(tmp_path, ct((40, 36, 30)), AXIAL)
    for k, values in enumerate(({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, {"PixelSpacing": [4, 4]})):
        ds = pydicom.dcmread(tmp_path / "slice000.dcm")
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        ds.InstanceNumber, ds.ImagePositionPatient = 90 + k, [-200, -200, 0]
        for name, value in values.items():
            setattr(ds, name, value)
        ds.save_as(tmp_path / f"localiser{k}.dcm")
    array, _ = VolumeReader().get_data((str(tmp_path),))
    np.testing.assert_array_equal(array, ct((40, 36, 30)))
    assert "left out image(s) 90: different orientations" in caplog.text
    assert "left out image(s) 91: pixels of 0.9 and 4 mm" in caplog.text


def test_a_slice_that_came_out_wrong_is_no_localiser(tmp_path):
    """At the end of a stack nothing would be missing."""
    write_ct_series(tmp_path, ct((40, 36, 30)), AXIAL)
    one("slice029.dcm", PixelSpacing=[2, 2])(tmp_path)
    with pytest.raises(ValueError, match="images 1 and 30 have pixels of 0.9 and 2 mm: the series is mixed"):
        VolumeReader().get_data((str(tmp_path),))


def test_studies_of_an_archive(tmp_path, caplog):
    """One folder a patient, series below, structure sets in folders of their own, a series without images."""
    for patient in ("a", "b"):
        write_ct_series(tmp_path / patient / "2020" / "ct", ct(), AXIAL)
        crowded(tmp_path / patient / "2020" / "ct")
        (tmp_path / patient / "rt").mkdir()
        (tmp_path / patient / "2020" / "ct" / "RTSTRUCT.dcm").rename(tmp_path / patient / "rt" / "1-1.dcm")
    assert [case["image"] for case in find_images(tmp_path)] == [str(tmp_path / p / "2020" / "ct") for p in "ab"]
    assert [path.name for path in SeriesFolders(tmp_path).convert(settled=0)[0]] == [
        "a_2020_ct.nii.gz",
        "b_2020_ct.nii.gz",
    ]
    with pytest.raises(ValueError, match=r"no DICOM series that is a volume\. RTSTRUCT series 1 .*: no images"):
        VolumeReader().get_data((str(tmp_path / "a" / "rt"),))
    VolumeReader().get_data((str(tmp_path / "a" / "2020" / "ct"),))
    assert "SEG series 1 (0 images) left out: no images (Segmentation Storage)" in caplog.text
    assert "copy of it.dcm; passed over" in caplog.text


def test_series_that_are_no_volume_do_not_hinder_one_that_is(tmp_path, caplog):
    """In one folder, as discs have it: a scout, a MIP, an iodine map, a picture of the dose report."""
    others: dict[str, Callable[[Path], None]] = {
        "scout": with_value(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "mip": with_value(ImageType=["DERIVED", "SECONDARY", "MIP"]),
        "iodine": with_value(RescaleType="MGML"),
        "rendered": both(make_multi_frame, _rendered),
        "dose": both(
            with_value(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
            lacking("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        ),
    }
    for name, maker in {"ct": plain, **others}.items():
        write_ct_series(tmp_path / "parts" / name, ct(), AXIAL)
        maker(tmp_path / "parts" / name)
        for path in (tmp_path / "parts" / name).glob("*.dcm"):
            (tmp_path / "disc").mkdir(exist_ok=True)
            path.rename(tmp_path / "disc" / f"{name}{path.name}")
    array, _ = VolumeReader().get_data((str(tmp_path / "disc"),))
    np.testing.assert_array_equal(array, ct())
    volume = read_volume(select_series(find_series(tmp_path), "CT"))
    np.testing.assert_array_equal(volume.array, ct())
    for reason in (
        "image type LOCALIZER",
        "type MIP",
        "in MGML",
        "type VOLUME_RENDER",
        "without a place in the patient",
    ):
        assert reason in caplog.text


def _rendered(folder: Path) -> None:
    def change(ds: Dataset) -> None:
        kind = Dataset()
        kind.FrameType, kind.VolumeBasedCalculationTechnique = ["DERIVED", "SECONDARY", "VOLUME"], "VOLUME_RENDER"
        ds.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = [kind]

    edit(folder, change)


def test_series_of_one_name_are_told(tmp_path, caplog):
    for name in ("a/b_c", "a_b/c"):
        write_ct_series(tmp_path / name, ct(), AXIAL)
    assert SeriesFolders(tmp_path).convert(settled=0)[0] == [tmp_path / "a_b_c.nii.gz"]
    assert "would have the name of" in caplog.text


def test_a_deflated_file_that_inflates_without_end(tmp_path, monkeypatch):
    write_ct_series(tmp_path, ct(), AXIAL)
    rewritten(DeflatedExplicitVRLittleEndian)(tmp_path)
    monkeypatch.setattr("monai_ext.data.files.dicom.headers.INFLATED", 1000)
    with pytest.raises(ValueError, match=r"slice000\.dcm: .*inflates to more than 1000 bytes"):
        VolumeReader().get_data((str(tmp_path),))


def test_a_decoder_that_is_not_there_is_named(tmp_path, monkeypatch):
    write_ct_series(tmp_path, ct(), AXIAL)
    compress(tmp_path, JPEGLSLossless)
    decoder = pixels.get_decoder(JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(ValueError, match=r"slice000\.dcm: .* JPEG-LS .* no decoder is installed.*python-gdcm"):
        VolumeReader().get_data((str(tmp_path),))
