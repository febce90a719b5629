# SPDX-License-Identifier: Apache-2.0
"""The brain phantom: nnU-Net's layout, channels of one grid, spacings and planes that differ, honest brightness."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.brain_honesty import brightness_baseline
from monai_ext.data import write_phantom
from monai_ext.phantoms import BRAIN_CHANNELS, BrainCase, brain_phantom_case, read_marker, write_brain_phantom


@pytest.fixture(scope="module")
def cases() -> list[BrainCase]:
    return [brain_phantom_case(case) for case in range(1, 8)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "Dataset901_Brain"
    write_brain_phantom(folder, 5, progress=False, workers=2, coarse=4)
    return folder


def test_nnunets_layout(cohort: Path) -> None:
    images = [f"imagesTr/brain_{case:03d}_{k:04d}.nii.gz" for case in range(1, 5) for k in range(4)]
    images += [f"imagesTs/brain_005_{k:04d}.nii.gz" for k in range(4)]
    labels = [f"labelsTr/brain_{case:03d}.nii.gz" for case in range(1, 5)] + ["labelsTs/brain_005.nii.gz"]
    found = sorted(path.relative_to(cohort).as_posix() for path in cohort.rglob("*") if path.is_file())
    assert found == sorted([*images, *labels, "dataset.json", "PHANTOM.json"])
    about = json.loads((cohort / "dataset.json").read_text())
    assert list(about["channel_names"].values()) == list(BRAIN_CHANNELS)
    assert about["labels"]["whole tumour"] == [1, 2, 3]
    assert (about["regions_class_order"], about["numTraining"], about["file_ending"]) == ([1, 2, 3], 4, ".nii.gz")
    marker = read_marker(cohort)
    assert marker is not None
    assert marker["cases"] == [1, 2, 3, 4, 5]


def test_files_hold_the_case_on_one_grid(cohort: Path) -> None:
    made = brain_phantom_case(3, coarse=4)
    label = nib.load(cohort / "labelsTr/brain_003.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj), made.label)
    for k in range(4):
        image = nib.load(cohort / f"imagesTr/brain_003_{k:04d}.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj), made.images[k])
        np.testing.assert_array_equal(image.affine, label.affine)


def test_planes_and_spacings_are_mixed(cases: list[BrainCase]) -> None:
    codes = ["".join(nib.aff2axcodes(case.affine)) for case in cases]
    assert {code[2] in "SI" for code in codes} == {True, False}  # axial and sagittal
    turned = [np.abs(case.affine[:3, :3] / np.linalg.norm(case.affine[:3, :3], axis=0)).max(axis=0) for case in cases]
    assert min(cosine.min() for cosine in turned) < 0.95  # oblique
    spacings = np.array([np.linalg.norm(case.affine[:3, :3], axis=0) for case in cases])
    assert spacings[:, 2].max() > 2 * spacings[:, 2].min()
    assert all(np.linalg.det(case.affine[:3, :3]) != 0 for case in cases)


def test_a_tumour_is_a_rim_around_a_core_within_edema(cases: list[BrainCase]) -> None:
    for case in cases:
        volumes = [(case.truth == value).sum() * abs(np.linalg.det(case.affine[:3, :3])) / 1000 for value in (1, 2, 3)]
        assert volumes[0] > 3
        assert volumes[1] > 0
        assert volumes[2] > 0.5
        assert not case.truth[case.images[0] == 0].any()
        assert all((channel == 0).mean() > 0.2 for channel in case.images)  # nothing outside the head


def test_what_is_ignored_is_left_out_of_a_whole_truth(cases: list[BrainCase]) -> None:
    ignored = [case.label == 4 for case in cases]
    assert not ignored[4].any()  # a test case
    assert all(mask.any() for i, mask in enumerate(ignored) if i != 4)
    whole = [int(mask.all(axis=(0, 1)).sum()) for mask in ignored]
    assert max(whole) > 2  # whole slices
    for case, mask in zip(cases, ignored):
        np.testing.assert_array_equal(case.label[~mask], case.truth[~mask])


def test_brightness_does_not_give_the_tumour_away(cases: list[BrainCase]) -> None:
    dice = np.array([brightness_baseline(case, 12, smooth) for case in cases[:4] for smooth in (0.0, 1.0)])
    assert dice.mean() < 0.3
    assert dice.mean(axis=1).max() < 0.45


def test_another_cohort_is_left_alone(cohort: Path) -> None:
    before = (cohort / "labelsTr/brain_001.nii.gz").read_bytes()
    with pytest.raises(ValueError, match="not of this phantom cohort"):
        write_brain_phantom(cohort, 5, seed=1, progress=False, coarse=4)
    assert (cohort / "labelsTr/brain_001.nii.gz").read_bytes() == before


def test_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setitem(write_phantom.__globals__["PHANTOMS"], "brain_mr", lambda folder, **more: written.append(more))
    write_phantom("brain_mr", tmp_path, 6)
    assert written == [{"num_cases": 6}]
    with pytest.raises(ValueError, match="must be 5 to 400"):
        write_brain_phantom(tmp_path, 3)
