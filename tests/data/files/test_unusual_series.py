# SPDX-License-Identifier: Apache-2.0
"""Series as archives hold them: odd headers that say nothing of the voxels, and derived images that are no volume.

``tests/apps/test_unusual_series.py`` tries them by every command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from monai_ext.data.files.dicom import find_series, select_series
from tests.apps.series import edit, make_multi_frame
from tests.data.files.test_dicom import AXIAL, both, ct, lacking, one, raw, with_value
from tests.dicom import write_ct_series


def first(number: int) -> Callable[[Path], None]:
    """Only the first slices."""

    def change(folder: Path) -> None:
        for path in sorted(folder.glob("*.dcm"))[number:]:
            path.unlink()

    return change


def without_character_set(folder: Path) -> None:
    """Bytes of Windows' Cyrillic, and no word of it."""
    edit(folder, lambda ds: setattr(ds, "PatientName", "Ivanov^Ivan"))
    for path in folder.glob("*.dcm"):
        path.write_bytes(path.read_bytes().replace(b"Ivanov^Ivan", "Иванов^Иван".encode("cp1251")))


def bytes_of(name: str, encoding: str) -> Callable[[Path], None]:
    """A name in some encoding, and no word of it."""

    def change(folder: Path) -> None:
        stored = name.encode(encoding)
        edit(folder, lambda ds: setattr(ds, "PatientName", "x" * len(stored)))
        for path in folder.glob("*.dcm"):
            path.write_bytes(path.read_bytes().replace(b"x" * len(stored), stored))

    return change


def of_32_bits(folder: Path) -> None:
    def change(ds: pydicom.Dataset) -> None:
        ds.PixelData = ds.pixel_array.astype("<i4").tobytes()
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 32, 32, 31

    edit(folder, change)


def unsigned(folder: Path) -> None:
    def change(ds: pydicom.Dataset) -> None:
        ds.PixelData = (ds.pixel_array.astype(np.int32) + 1024).astype("<u2").tobytes()
        ds.RescaleIntercept, ds.PixelRepresentation = -2048, 0

    edit(folder, change)


def with_private_block(folder: Path) -> None:
    def change(ds: pydicom.Dataset) -> None:
        block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", b"SV10" + bytes(600))
        block.add_new(0x20, "UN", bytes(range(256)))

    edit(folder, change)


def named(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for k, path in enumerate(sorted(folder.glob("*.dcm"))):
            path.rename(folder / pattern.format(k))

    return change


def beside(name: str, content: bytes) -> Callable[[Path], None]:
    """Another file among the slices."""
    return lambda folder: (folder / name).write_bytes(content) and None  # type: ignore[return-value]


def disc(folder: Path) -> None:
    """Other series of the study in the same folder, none of them a volume of Hounsfield units, and a report."""
    others = {
        "scout": with_value(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "mip": with_value(ImageType=["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]),
        "iodine": with_value(RescaleType="MGML"),
        "dose": both(
            with_value(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT"),
            lacking("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
        ),
        "report": both(
            with_value(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR"), lacking("PixelData", "Rows")
        ),
    }
    for name, maker in others.items():
        write_ct_series(folder / name, ct((12, 10, 4)), AXIAL)
        maker(folder / name)
        for path in (folder / name).iterdir():
            path.rename(folder / f"{name}_{path.name}")
        (folder / name).rmdir()


def multi_frame_thickness(*thickness: object) -> Callable[[Path], None]:
    """Multi-frame with a Slice Thickness of its own, or with none."""

    def change(ds: pydicom.Dataset) -> None:
        measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SliceThickness
        if thickness:
            measures.SliceThickness = thickness[0]

    return both(make_multi_frame, lambda folder: edit(folder, change))


#: all of them are usable
UNUSUAL: dict[str, Callable[[Path], None]] = {
    "Japanese": with_value(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Y^T=山田^太郎"),
    "Korean": with_value(SpecificCharacterSet=["", "ISO 2022 IR 149"], PatientName="H^G=洪^吉洞=홍^길동"),
    "Cyrillic": with_value(SpecificCharacterSet="ISO_IR 144", PatientName="Иванов^Иван"),
    "Cyrillic without character set": without_character_set,
    "Chinese": with_value(SpecificCharacterSet="GB18030", PatientName="王^小东"),
    "Chinese in UTF-8": with_value(SpecificCharacterSet="ISO_IR 192", PatientName="Wang^XiaoDong=王^小东"),
    "Arabic": with_value(SpecificCharacterSet="ISO_IR 127", PatientName="قباني^لنزار"),
    "Greek": with_value(SpecificCharacterSet="ISO_IR 126", PatientName="Διονυσιος"),
    "Hebrew": with_value(SpecificCharacterSet="ISO_IR 138", PatientName="שרון^דבורה"),
    "German": with_value(SpecificCharacterSet="ISO_IR 100", PatientName="Äneas^Rüdiger"),
    "several character sets": with_value(
        SpecificCharacterSet=["ISO 2022 IR 13", "ISO 2022 IR 87"], PatientName="ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"
    ),
    "UTF-8 without character set": bytes_of("Müller^Jörg", "utf-8"),
    "Shift-JIS without character set": bytes_of("山田太郎", "shift-jis"),
    "unknown character set": with_value(SpecificCharacterSet="ISO_IR 999"),
    "malformed date": with_value(StudyDate="2020-01-02", PatientBirthDate="1970"),
    "short date and time": with_value(StudyDate="2020", StudyTime="9"),
    "sex U": with_value(PatientSex="U"),
    "MONOCHROME1": with_value(PhotometricInterpretation="MONOCHROME1"),
    "two slices": first(2),
    "one slice": first(1),
    "raw": raw,
    "series number beyond its type": with_value(SeriesNumber="99999999999"),
    "negative series number": with_value(SeriesNumber=-5),
    "no numbers": lacking("SeriesNumber", "InstanceNumber"),
    "empty thickness": with_value(SliceThickness=None),
    "thickness 0": with_value(SliceThickness=0),
    "multi-frame without thickness": multi_frame_thickness(),
    "multi-frame, thickness empty": multi_frame_thickness(None),
    "no modality": lacking("Modality"),
    "modality in small letters": with_value(Modality="ct"),
    "rescale type US": with_value(RescaleType="US"),
    "rescale type in small letters": with_value(RescaleType="hu"),
    "malformed time": with_value(StudyTime="09:15"),
    "no patient": lacking("PatientID", "PatientName"),
    "empty patient": with_value(PatientID="", PatientName=""),
    "age that is none": with_value(PatientAge="forty"),
    "empty image type": with_value(ImageType=None),
    "image type of a scanner's own": with_value(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI DUAL"]),
    "instance numbers all alike": with_value(InstanceNumber=1),
    "slice location that is wrong": with_value(SliceLocation=7),
    "negative spacing between slices": with_value(SpacingBetweenSlices=-2.5),
    "gantry tilt that is none": with_value(GantryDetectorTilt=12),
    "patient position that is wrong": with_value(PatientPosition="FFP"),
    "number of frames 1": with_value(NumberOfFrames=1),
    "padding value": lambda folder: edit(folder, lambda ds: ds.add_new("PixelPaddingValue", "SS", -2000)),
    "private tags": with_private_block,
    "32 bits": of_32_bits,
    "unsigned": unsigned,
    "names without suffix": named("IM{:04d}"),
    "names in capitals": named("SLICE {:03d} Ä.DCM"),
    "notes beside": beside("notes.txt", b"seen by nobody"),
    "a study in one folder": disc,
    "long texts": with_value(AccessionNumber="A" * 40, PatientName="x" * 100),
}

UNSUITABLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "MIP": (with_value(ImageType=["DERIVED", "SECONDARY", "MIP"]), "image type MIP"),
    "MinIP": (with_value(ImageType=["DERIVED", "SECONDARY", "AXIAL", "MINIP"]), "image type MINIP"),
    "average": (with_value(ImageType=["DERIVED", "SECONDARY", "AVERAGE"]), "image type AVERAGE"),
    "iodine": (with_value(RescaleType="MGML"), "its values are in MGML"),
    "effective number": (with_value(RescaleType="Z_EFF"), "its values are in Z_EFF"),
    "no modality, no rescale": (lacking("Modality", "RescaleSlope", "RescaleIntercept"), "no Rescale Slope"),
    "another modality, no rescale": (
        both(with_value(Modality="OT"), lacking("RescaleSlope", "RescaleIntercept")),
        "no Rescale Slope",
    ),
    "MIP of a scanner's own": (
        with_value(ImageType=["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]),
        "image type MIP",
    ),
    "reformat of a workstation's own": (with_value(ImageType=["DERIVED", "SECONDARY", "CSA MPR"]), "image type MPR"),
    "curved reformat": (with_value(ImageType=["DERIVED", "SECONDARY", "CURVED_MPR"]), "image type CURVED_MPR"),
    "volume rendering": (with_value(ImageType=["DERIVED", "SECONDARY", "VRT"]), "image type VRT"),
    "screen save": (with_value(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), "image type SCREEN SAVE"),
    "topogram": (with_value(ImageType=["ORIGINAL", "PRIMARY", "TOPOGRAM"]), "image type TOPOGRAM"),
    "electron density": (with_value(RescaleType="ED"), "its values are in ED"),
    "empty rescale values": (with_value(RescaleSlope=None, RescaleIntercept=None), "no Rescale Slope"),
    "one slice without rescale values": (one("slice004.dcm", RescaleSlope=None), "image 5 has no Rescale Slope"),
    "no orientation": (lacking("ImageOrientationPatient"), r"has no Image Orientation \(Patient\)"),
    "empty spacing": (with_value(PixelSpacing=None), "has no Pixel Spacing"),
    "spacing 0": (with_value(PixelSpacing=[0, 0]), "pixel spacing, orientation or position makes no sense"),
    "axes that are not upright": (with_value(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]), "makes no sense"),
    "position of two numbers": (with_value(ImagePositionPatient=[1, 2]), "is '1.0, 2.0', expected 3 numbers"),
    "palette": (with_value(PhotometricInterpretation="PALETTE COLOR"), "numbers of colours in a palette"),
    "no bits stored": (lacking("HighBit", "BitsStored"), "has no Bits Stored"),
    "no columns": (lacking("Columns"), "has no Columns"),
    "empty rows": (with_value(Rows=None), "has no Rows"),
    "no bits allocated": (lacking("BitsAllocated"), "has no Bits Allocated"),
    "no samples per pixel": (lacking("SamplesPerPixel"), "has no Samples per Pixel"),
    "no photometric interpretation": (lacking("PhotometricInterpretation"), "has no Photometric Interpretation"),
    "no pixel representation": (lacking("PixelRepresentation"), "has no Pixel Representation"),
    "multi-frame without number of frames": (both(make_multi_frame, lacking("NumberOfFrames")), "has no Number of Fr"),
    "multi-frame without places": (
        both(make_multi_frame, lambda folder: edit(folder, _without_places)),
        r"has no Image Position \(Patient\)",
    ),
    "empty slice": (beside("slice007.dcm", b""), r"slice007\.dcm: cannot be read"),
    "text called a slice": (beside("slice007.dcm", b"no image"), r"slice007\.dcm: cannot be read"),
    "two names": (one("slice003.dcm", PatientName="Other"), r"images of 2 patients \(their names differ\)"),
    "two birth dates": (
        both(with_value(PatientBirthDate="19700101"), one("slice003.dcm", PatientBirthDate="19700102")),
        "images of 2 patients .their birth dates differ",
    ),
    "decimal commas": (
        lambda folder: _commas(folder),
        r"slice000\.dcm: its Pixel Spacing is '0,5, 0,5', expected 2 numbers",
    ),
}


def _without_places(ds: pydicom.Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


def _commas(folder: Path) -> None:
    edit(folder, lambda ds: setattr(ds, "PixelSpacing", [0.5, 0.5]))
    for path in folder.glob("*.dcm"):
        path.write_bytes(path.read_bytes().replace(b"0.5\\0.5 ", b"0,5\\0,5 "))


def made(folder: Path, maker: Callable[[Path], None]) -> None:
    write_ct_series(folder, ct(), AXIAL)
    with pydicom.config.disable_value_validation():
        maker(folder)


def test_series_of_several_patients_are_listed_with_what_tells_them_apart(tmp_path):
    uids = []
    for patient, date in (("a\x1b[2J", "20200102"), ("b", "20210304")):
        made(tmp_path / date, with_value(PatientID=patient, StudyDate=date, SeriesDescription=f"thin {date}"))
        uids.append(pydicom.dcmread(tmp_path / date / "slice000.dcm").SeriesInstanceUID)
    for chosen in (None, "9"):
        with pytest.raises(ValueError, match="monai_ext: ") as e:
            select_series(find_series(tmp_path), "CT", chosen)
        told = str(e.value)
        for patient, date, uid in (("a[2J", "20200102", uids[0]), ("b", "20210304", uids[1])):
            expected = f"CT series 1 'thin {date}' (7 images), patient '{patient}', study of {date}, UID {uid}"
            assert expected in told
        assert "Phantom" not in told  # a patient's name is none of a log's
        assert told.isprintable()
