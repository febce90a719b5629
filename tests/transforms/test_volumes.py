# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_ext.transforms import CheckVolumed, MapLabelsd


def loaded(values, dtype=torch.float32) -> MetaTensor:
    return MetaTensor(torch.tensor(values, dtype=dtype)[None], meta={"filename_or_obj": "/data/a.nii.gz"})


def test_a_good_volume_passes_unchanged():
    data = {"image": loaded([[1.0, 2.0]])}
    assert CheckVolumed("image")(data)["image"] is data["image"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, float("nan")]], "not finite"),
        ([[1.0, float("inf")]], "not finite"),
        ([[3.0, 3.0]], "every voxel is 3"),
    ],
)
def test_volumes_without_an_image(values, message):
    with pytest.raises(ValueError, match=rf"monai_ext: /data/a\.nii\.gz: .*{message}"):
        CheckVolumed("image")({"image": loaded(values)})


def test_codes_become_classes():
    mapped = MapLabelsd("label", 3, {0: 0, 8: 1, 4: 2, 13: 0})({"label": loaded([[8, 4, 13, 0]])})["label"]
    assert mapped.dtype == torch.uint8
    assert mapped.tolist() == [[[1, 2, 0, 0]]]
    assert mapped.meta["filename_or_obj"] == "/data/a.nii.gz"
    assert MapLabelsd("label", 3)({"label": loaded([[2, 1, 0, 0]])})["label"].tolist() == [[[2, 1, 0, 0]]]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[0, 5]], r"\[5\], expected only \[0, 1, 2\]"),
        ([[0, -1]], r"\[-1\], expected only \[0, 1, 2\]"),
        ([[900, 1]], r"\[900\], expected only \[0, 1, 2\]"),
        ([[0.5, 1]], r"0\.5 \(1 of 2\), expected whole numbers\. If the label was resampled"),
        ([[0.998, 0.9985]], r"0\.998, 0\.9985 \(2 of 2\), expected whole numbers"),
        ([[float("nan"), 1]], r"NaN \(1 of 2\), expected whole numbers\. Set them to 0"),
        ([[float("inf"), 1]], r"inf \(1 of 2\), expected whole numbers"),
        ([[1e30, 1]], r"1e\+30 \(1 of 2\), expected whole numbers"),
    ],
)
def test_unknown_values_are_named(values, found):
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: label values {found}"):
        MapLabelsd("label", 3)({"label": loaded(values)})


def test_what_is_within_a_thousandth_of_a_number_is_that_number():
    values = [[0.9999999, 1.0009, 1.9991, -0.0009]]
    assert MapLabelsd("label", 3)({"label": loaded(values)})["label"].tolist() == [[[1, 1, 2, 0]]]
    assert MapLabelsd("label", 3)({"label": loaded(values, torch.float64)})["label"].tolist() == [[[1, 1, 2, 0]]]


def test_a_mapping_beyond_the_classes():
    with pytest.raises(ValueError, match="with 2 classes"):
        MapLabelsd("label", 2, {0: 0, 1: 2})
