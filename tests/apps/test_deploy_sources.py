# SPDX-License-Identifier: Apache-2.0
"""What a DICOM SEG repeats of its source images: right, in UTF-8, or empty; and what it cannot refer to."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from monai_ext.apps.deploy.sources import quoted_sources
from monai_ext.data.files.dicom import find_series, read_volume, select_series
from tests.apps.series import edit, make_multi_frame
from tests.data.volumes import rotation, volume
from tests.dicom import write_ct_series

AFFINE = rotation(20) @ np.diag([-0.8, -0.9, 2.5, 1.0])


def sources(folder, **values):
    """Of a series in which values were replaced, or with None removed."""

    def change(ds):
        for name, value in values.items():
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)

    write_ct_series(folder, volume(shape=(9, 7, 6))[0], AFFINE)
    with pydicom.config.disable_value_validation():
        edit(folder, change)
    return quoted_sources(read_volume(select_series(find_series(folder), "CT")))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"}, None),
        ({"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": "Hong^Gildong=洪^吉洞=홍^길동"}, None),
        ({"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Иванов^Иван"}, None),
        ({"SpecificCharacterSet": "GB18030", "PatientName": "王^小东"}, None),
        ({"PatientSex": "F", "StudyDate": "20240229", "StudyTime": "091500.5"}, None),
        ({"PatientSex": "U"}, {"PatientSex": ""}),
        ({"StudyDate": "2020.01.02", "StudyTime": "9:15"}, {"StudyDate": "", "StudyTime": ""}),
        ({"PatientBirthDate": "19701301"}, {"PatientBirthDate": ""}),
        ({"SliceThickness": None}, {"SliceThickness": "2.5"}),
        ({"SliceThickness": ""}, {"SliceThickness": "2.5"}),
        ({"PatientID": None, "PatientName": None}, {"PatientID": "", "PatientName": ""}),
    ],
)
def test_what_is_repeated(given, read, tmp_path):
    found = sources(tmp_path, **given)
    assert len(found) == 6
    for ds in found:
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        for name, value in (read or given).items():
            if name != "SpecificCharacterSet":
                assert str(ds.get(name) or "") == value
    ds.save_as(tmp_path / "again", enforce_file_format=True)  # nothing that cannot be written
    for name, value in (read or given).items():
        if name != "SpecificCharacterSet":
            assert str(pydicom.dcmread(tmp_path / "again").get(name) or "") == value


def test_sources_are_in_the_order_of_the_volume_and_without_pixels(tmp_path):
    found = sources(tmp_path)
    assert [ds.InstanceNumber for ds in found] == [1, 2, 3, 4, 5, 6]
    assert not any("PixelData" in ds for ds in found)


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_cannot_be_referred_to(name, value, tmp_path):
    words = name.replace("InstanceUID", " Instance UID").replace("FrameOfReferenceUID", "Frame of Reference UID")
    with pytest.raises(ValueError, match=rf"slice000\.dcm: it has no {words}, to which DICOM SEG refers\. Send"):
        sources(tmp_path, **{name: value})


def test_one_multi_frame_object_is_one_source(tmp_path):
    write_ct_series(tmp_path, volume(shape=(9, 7, 6))[0], AFFINE)
    make_multi_frame(tmp_path)
    found = read_volume(select_series(find_series(tmp_path), "CT"))
    assert len(quoted_sources(found)) == 1
    ds = pydicom.dcmread(tmp_path / "enhanced.dcm")
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    for group in ds.PerFrameFunctionalGroupsSequence:  # behind the first
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        normal = np.linalg.inv(np.diag([-1.0, -1.0, 1.0])) @ AFFINE[:3, 2]
        group.PlanePositionSequence[0].ImagePositionPatient = [float(f"{v:.10g}") for v in place + 6 * normal]
    ds.save_as(tmp_path / "second.dcm")
    found = read_volume(select_series(find_series(tmp_path), "CT"))
    assert found.array.shape == (9, 7, 12)
    with pytest.raises(ValueError, match="one of several multi-frame objects of a series"):
        quoted_sources(found)


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["../../x", "..", "1..2", "1.2/3", "1." * 32 + "1", "1.²"])
def test_what_is_no_uid_names_no_folder(name, value, tmp_path):
    with pytest.raises(ValueError, match="expected numbers with dots between, at most 64 characters") as e:
        sources(tmp_path, SpecificCharacterSet="ISO_IR 192", **{name: value})
    assert "\n" not in str(e.value)


def test_images_of_two_studies_in_one_series(tmp_path):
    write_ct_series(tmp_path, volume(shape=(9, 7, 6))[0], AFFINE)
    ds = pydicom.dcmread(tmp_path / "slice003.dcm")
    ds.StudyInstanceUID = "1.2.3"
    ds.save_as(tmp_path / "slice003.dcm")
    with pytest.raises(ValueError, match=r"slice003\.dcm: its Study Instance UID is not that of .*slice000\.dcm"):
        quoted_sources(read_volume(select_series(find_series(tmp_path), "CT")))
