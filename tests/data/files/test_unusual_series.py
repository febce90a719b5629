# SPDX-License-Identifier: Apache-2.0
"""Series as archives hold them: odd headers that say nothing of the voxels, and derived images that are no volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from monai_ext.apps.deploy.sources import quoted_sources
from monai_ext.data import VolumeReader
from monai_ext.data.files.dicom import find_series, read_volume, select_series
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
    "two names": (one("slice003.dcm", PatientName="Other"), r"images of 2 patients \(their names: OTHER, PHANTOM\)"),
    "two birth dates": (
        both(with_value(PatientBirthDate="19700101"), one("slice003.dcm", PatientBirthDate="19700102")),
        "images of 2 patients .their birth dates",
    ),
    "decimal commas": (
        lambda folder: _commas(folder),
        r"slice000\.dcm: cannot be read",
    ),
}


def _commas(folder: Path) -> None:
    edit(folder, lambda ds: setattr(ds, "PixelSpacing", [0.5, 0.5]))
    for path in folder.glob("*.dcm"):
        path.write_bytes(path.read_bytes().replace(b"0.5\\0.5 ", b"0,5\\0,5 "))


def made(folder: Path, maker: Callable[[Path], None]) -> None:
    write_ct_series(folder, ct(), AXIAL)
    with pydicom.config.disable_value_validation():
        maker(folder)


@pytest.mark.parametrize("name", UNUSUAL)
def test_odd_headers_change_no_voxel(name, tmp_path):
    made(tmp_path, UNUSUAL[name])
    array, meta = VolumeReader().get_data((str(tmp_path),))
    volume = read_volume(select_series(find_series(tmp_path), "CT"))
    slices = {"one slice": 1, "two slices": 2}.get(name, 7)
    for voxels, affine in ((array, meta["affine"]), (volume.array, volume.affine)):
        np.testing.assert_array_equal(voxels, ct()[..., :slices])
        np.testing.assert_allclose(affine, AXIAL, atol=1e-5)
    for ds in quoted_sources(volume):
        assert ds.Modality == "CT"
        groups = ds.get("SharedFunctionalGroupsSequence")
        assert (groups[0].PixelMeasuresSequence[0] if groups else ds).SliceThickness == pytest.approx(2.5)
        assert ds.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("name", UNSUITABLE)
def test_what_is_no_volume_of_one_patient_is_refused(name, tmp_path):
    maker, reason = UNSUITABLE[name]
    made(tmp_path, maker)
    for read in (
        lambda: VolumeReader().get_data((str(tmp_path),)),
        lambda: read_volume(select_series(find_series(tmp_path), "CT")),
    ):
        with pytest.raises(ValueError, match=reason) as e:
            read()
        assert str(e.value).startswith("monai_ext: ")
        assert "attribute" not in str(e.value)
        assert "\n" not in str(e.value)


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
