# SPDX-License-Identifier: Apache-2.0
"""Big pictures with thin vessels: nnU-Net's layout, and vessels that shrinking loses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt

from benchmarks.picture_honesty import cluster_baseline
from monai_ext.data import read_list
from monai_ext.phantoms import fine_vessel_case, read_marker, vessel_case, write_fine_vessels

SIZE = (384, 512)


def test_layout_and_content(tmp_path):
    write_fine_vessels(tmp_path / "eyes", 4, size=(96, 128))
    listed = read_list(tmp_path / "eyes" / "dataset.json")
    assert [case["case_id"] for case in listed.parts["training"]] == ["eye_001", "eye_002", "eye_003"]
    assert [case["case_id"] for case in listed.parts["test"]] == ["eye_004"]
    assert (listed.class_names, listed.channel_names) == ({1: "vessel"}, ())
    for case in listed.parts["training"]:
        assert Image.open(case["image"]).size == (128, 96)
        assert np.unique(np.asarray(Image.open(case["label"]))).tolist() == [0, 1]
    marker = read_marker(tmp_path / "eyes")
    assert marker is not None
    assert marker["phantom"]
    write_fine_vessels(tmp_path / "eyes", 4, size=(96, 128))
    with pytest.raises(ValueError, match="holds another phantom cohort"):
        write_fine_vessels(tmp_path / "eyes", 4, seed=1, size=(96, 128))
    with pytest.raises(ValueError, match="at least 4"):
        write_fine_vessels(tmp_path / "few", 3)


def test_vessels_are_thin_and_are_lost_where_a_picture_is_shrunk():
    """Half of what there is lies within 1.5 pixels (of 2048: 6) of the edge; a quarter of the size keeps little."""
    fine, usual = fine_vessel_case(1, SIZE), vessel_case(1, SIZE)
    depths = [distance_transform_edt(case.objects > 0)[case.objects > 0] for case in (fine, usual)]
    assert np.median(depths[0]) < 1.6 < np.percentile(depths[1], 75)
    assert (fine.objects > 0).sum() < 0.6 * (usual.objects > 0).sum()
    mask = fine.objects > 0
    blocks = mask.reshape(96, 4, 128, 4).mean(axis=(1, 3)) > 0.5  # what a label of a quarter of the size has
    again = blocks.repeat(4, 0).repeat(4, 1)
    dice = 2 * (again & mask).sum() / (again.sum() + mask.sum())
    assert dice < 0.6
    assert np.array_equal(fine.image, fine_vessel_case(1, SIZE).image)


def test_colour_does_not_give_them_away():
    assert np.mean([cluster_baseline(fine_vessel_case(seed, (192, 256))) for seed in range(3)]) < 0.35
