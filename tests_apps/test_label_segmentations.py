# SPDX-License-Identifier: Apache-2.0
"""Labels as DICOM SEG and back, without a server."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from monai_ext.apps.label.request_knobs import RequestError
from monai_ext.apps.label.segmentations import label_classes, read_label, read_segments, source_volume, write_seg
from tests.apps.series import make_mr, make_multi_frame, tilt
from tests.data.volumes import RAS, rotation, volume
from tests.dicom import write_ct_series

FORMS = {"plain": lambda folder: None, "tilted": lambda folder: tilt(folder, 15), "multi_frame": make_multi_frame}


@pytest.fixture
def series(tmp_path):
    write_ct_series(tmp_path / "ct", volume(shape=(8, 7, 5))[0], rotation(10) @ RAS)
    return tmp_path / "ct"


def drawn(folder: Path, file: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, source_volume(folder).affine), file)
    return file


@pytest.mark.parametrize("form", [*FORMS, "MR"])
@pytest.mark.parametrize("empty", [False, True])
def test_what_was_drawn_comes_back(series, form, empty, tmp_path):
    {**FORMS, "MR": make_mr}[form](series)
    values = np.zeros((8, 7, 5), np.uint8)
    if not empty:
        values[1:4, 2:6, 1:3], values[5:7, 0:2, 4], values[0, 0, 0] = 1, 2, 3
    label = drawn(series, tmp_path / "label.nii.gz", values)
    write_seg(tmp_path / "seg.dcm", label, {"spleen": 1, "liver": 2, "aorta": 3}, series, model=None)
    found = read_segments(tmp_path / "seg.dcm")
    assert dict(found.names) == {1: "spleen", 2: "liver", 3: "aorta"}
    assert found.by_hand
    uid = str(pydicom.dcmread(next(series.glob("*.dcm"))).SeriesInstanceUID)
    assert found.series == uid
    np.testing.assert_array_equal(read_label(tmp_path / "seg.dcm", source_volume(series)), values)


def test_what_a_program_made_is_not_by_hand(series, tmp_path):
    label = drawn(series, tmp_path / "label.nii.gz", np.ones((8, 7, 5), np.uint8))
    write_seg(tmp_path / "seg.dcm", label, {"liver": 1}, series, model="unet", version="1.0")
    assert not read_segments(tmp_path / "seg.dcm").by_hand


def test_a_segmentation_of_another_series_is_refused(series, tmp_path):
    label = drawn(series, tmp_path / "label.nii.gz", np.ones((8, 7, 5), np.uint8))
    write_seg(tmp_path / "seg.dcm", label, {"liver": 1}, series, model=None)
    write_ct_series(tmp_path / "other", volume(shape=(8, 7, 5))[0], RAS)
    with pytest.raises(ValueError, match="seg.dcm: this DICOM SEG cannot be laid on its series"):
        read_label(tmp_path / "seg.dcm", source_volume(tmp_path / "other"))


class Named:
    def __init__(self, *names: str) -> None:
        self.channel_def = {0: "background", **dict(enumerate(names, start=1))}


def test_values_are_what_the_viewer_or_the_model_says():
    one, same, other = Named("liver", "spleen"), Named("liver", "spleen"), Named("aorta")
    segments = {"label_info": [{"name": "Spleen", "idx": 7}, {"name": "liver"}]}
    assert label_classes(segments, {"one": one, "other": other}) == {"spleen": 1, "liver": 2}
    assert label_classes({"model": "other"}, {"one": one, "other": other}) == {"aorta": 1}
    assert label_classes({}, {"one": one, "same": same}) == {"liver": 1, "spleen": 2}
    for wrong in ({}, {"model": "x"}, {"label_info": []}, {"label_info": "$1"}):
        with pytest.raises(RequestError, match="does not say what its values mean"):
            label_classes(wrong, {"one": one, "other": other})
    for wrong in ([{"name": "liver"}, {"name": "liver"}], [{}], ["liver"]):
        with pytest.raises(RequestError, match="expected a name each"):
            label_classes({"label_info": wrong}, {"one": one})
