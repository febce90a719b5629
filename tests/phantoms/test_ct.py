# SPDX-License-Identifier: Apache-2.0
"""The CT phantom: the publisher's layout, correct geometry in every orientation, organs not given by brightness."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.phantom_honesty import best_assignment, intensity_baseline
from monai_ext.phantoms import ct_phantom_case, ct_phantom_case_ids, read_marker, write_ct_phantom

TRAINING = (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
EIGHT = (1, 2, 3, 4, 6, 7, 8, 11)
TINY = {"in_plane": 64, "slices": 24}
TINIEST = {"in_plane": 32, "slices": 12}  # where only the files matter


def load(folder: Path, case: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    base = folder / "RawData" / "Training"
    return nib.load(base / "img" / f"img{case:04d}.nii.gz"), nib.load(base / "label" / f"label{case:04d}.nii.gz")


def centroid(label: np.ndarray, code: int, affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ np.argwhere(label == code).mean(0) + affine[:3, 3]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_ct_phantom(folder, 12, progress=False, workers=2, **TINY)
    return folder


@pytest.fixture(scope="module")
def all_cases() -> dict:
    """Every case of the cohort on a coarse grid: an organ that shows up here shows up on the default grid."""
    return {case: ct_phantom_case(case, in_plane=72, slices=36) for case in TRAINING + TEST}


class TestCohort:
    def test_layout_as_published(self, cohort: Path) -> None:
        files = sorted(str(p.relative_to(cohort)) for p in cohort.rglob("*") if p.is_file())
        ids = sorted((5, 6, 7, 9, 10, 21, 23, 1, 2, 3, 4, 8))
        expected = [f"RawData/Training/img/img{i:04d}.nii.gz" for i in ids]
        expected += [f"RawData/Training/label/label{i:04d}.nii.gz" for i in ids]
        assert files == ["PHANTOM.json", *expected]

    def test_image_and_label_share_one_grid(self, cohort: Path) -> None:
        for case in (5, 7, 1):
            image, label = load(cohort, case)
            assert image.get_data_dtype() == np.int16
            assert label.get_data_dtype() == np.uint8
            assert image.shape == label.shape == (64, 64, 24)
            np.testing.assert_array_equal(image.affine, label.affine)
            assert image.header["sform_code"] == 1
            np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-4)
            assert image.header.get_xyzt_units()[0] == "mm"

    def test_says_that_it_is_a_phantom(self, cohort: Path) -> None:
        marker = json.loads((cohort / "PHANTOM.json").read_text())
        assert marker == read_marker(cohort)
        assert marker["phantom"] is True
        assert marker["seed"] == 0
        assert marker["cases"] == [5, 6, 7, 9, 10, 21, 23, 1, 2, 3, 4, 8]
        assert marker["note"] == "phantom data, no clinical meaning"
        assert b"phantom" in bytes(load(cohort, 5)[0].header["descrip"])

    def test_other_folders_are_no_phantom(self, tmp_path: Path) -> None:
        assert read_marker(tmp_path) is None

    def test_same_voxels_whatever_else_is_written(self, cohort: Path, tmp_path: Path) -> None:
        write_ct_phantom(tmp_path, 5, progress=False, workers=1, **TINY)
        for case in (5, 1):
            for one, other in zip(load(cohort, case), load(tmp_path, case)):
                np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
                np.testing.assert_array_equal(one.affine, other.affine)

    def test_resumes_with_what_is_missing(self, tmp_path: Path) -> None:
        write_ct_phantom(tmp_path, 5, progress=False, **TINIEST)
        images, labels = tmp_path / "RawData/Training/img", tmp_path / "RawData/Training/label"
        before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in [*images.iterdir(), *labels.iterdir()]}
        voxels = np.asarray(load(tmp_path, 7)[0].dataobj).copy()
        (images / "img0007.nii.gz").unlink()
        (labels / "label0009.nii.gz").unlink()
        (tmp_path / "PHANTOM.json").unlink()
        write_ct_phantom(tmp_path, 5, progress=False, **TINIEST)
        after = {p.name: p.stat().st_mtime_ns for p in [*images.iterdir(), *labels.iterdir()]}
        assert after.keys() == before.keys()
        rewritten = {name for name, time in after.items() if time != before[name][0]}
        assert rewritten == {"img0007.nii.gz", "label0007.nii.gz", "img0009.nii.gz", "label0009.nii.gz"}
        np.testing.assert_array_equal(np.asarray(load(tmp_path, 7)[0].dataobj), voxels)
        assert read_marker(tmp_path)["cases"] == [5, 6, 7, 9, 1]

    def test_a_cohort_grows(self, tmp_path: Path) -> None:
        write_ct_phantom(tmp_path, 5, progress=False, **TINIEST)
        write_ct_phantom(tmp_path, 6, progress=False, **TINIEST)
        assert read_marker(tmp_path)["cases"] == [5, 6, 7, 9, 1, 2]

    @pytest.mark.parametrize(
        ("num_cases", "training", "test"),
        [(5, 4, 1), (6, 4, 2), (8, 5, 3), (10, 6, 4), (15, 9, 6), (20, 12, 8), (30, 18, 12)],
    )
    def test_small_cohorts_keep_the_split(self, num_cases: int, training: int, test: int) -> None:
        assert ct_phantom_case_ids(num_cases) == (TRAINING[:training], TEST[:test])


class TestAnatomy:
    def test_seeds_and_cases_differ(self) -> None:
        first = ct_phantom_case(5, **TINY).label
        for other in (ct_phantom_case(5, seed=1, **TINY).label, ct_phantom_case(21, **TINY).label):  # LPS, too
            organs = (first > 0) | (other > 0)
            assert np.mean(first[organs] != other[organs]) > 0.25

    def test_every_label_in_every_case(self, all_cases: dict) -> None:
        for case, made in all_cases.items():
            assert set(np.unique(made.label)) == set(range(14)), f"case {case}"

    def test_volumes(self, all_cases: dict) -> None:
        """In ml, ranges of adults; the smallest organs are larger than life so that thick slices show them."""
        ranges = {
            1: (90, 500),
            2: (90, 330),
            3: (90, 330),
            4: (20, 90),
            6: (900, 2200),
            7: (150, 700),
            8: (40, 180),
            11: (40, 180),
        }
        for case, made in all_cases.items():
            voxel = abs(np.linalg.det(made.affine[:3, :3])) / 1000
            for code, (least, most) in ranges.items():
                assert least < (made.label == code).sum() * voxel < most, f"case {case}, label {code}"

    def test_orientations(self, all_cases: dict) -> None:
        codes = {case: "".join(nib.aff2axcodes(made.affine)) for case, made in all_cases.items()}
        assert {codes[case] for case in TRAINING} == {"LPS", "RAS", "LAS", "RPS", "PLS", "LAI"}
        assert {"LPS", "RAS"} <= {codes[case] for case in TEST}
        assert {codes[case] for case in ct_phantom_case_ids(5)[0]} == {"LPS", "RAS", "LAS"}

        def tilt(affine: np.ndarray) -> float:
            direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
            return float(np.rad2deg(np.arccos(np.abs(direction).max(0).min())))

        tilts = {case: tilt(made.affine) for case, made in all_cases.items()}
        oblique = {case for case, angle in tilts.items() if angle > 1}
        assert oblique & set(TRAINING) and oblique & set(TEST)
        assert all(4 < tilts[case] < 12 for case in oblique)

    def test_organs_lie_where_the_affine_says(self, all_cases: dict) -> None:
        for case, made in all_cases.items():
            at = {code: centroid(made.label, code, made.affine) for code in range(1, 14)}
            right, front, up = 0, 1, 2
            assert at[6][right] - at[1][right] > 100, f"case {case}: liver right, spleen left"
            assert at[2][right] - at[3][right] > 80, f"case {case}: right and left kidney"
            assert at[9][right] - at[8][right] > 15, f"case {case}: vena cava right of the aorta"
            assert at[12][right] - at[13][right] > 30, f"case {case}: adrenal glands"
            assert at[4][right] - at[7][right] > 40, f"case {case}: gallbladder right, stomach left"
            assert at[7][front] - at[3][front] > 30, f"case {case}: stomach in front of the kidney"
            assert at[4][front] - at[2][front] > 50, f"case {case}: gallbladder in front of the kidney"
            assert at[1][up] - at[3][up] > 15, f"case {case}: spleen above the kidney"
            assert at[5][up] - at[11][up] > 40, f"case {case}: esophagus above the pancreas"

    def test_another_grid_shows_the_same_patient(self) -> None:
        """An organ is at the same place in mm however fine the grid is."""
        coarse, fine = ct_phantom_case(7, in_plane=64, slices=30), ct_phantom_case(7, in_plane=128, slices=60)
        for code in EIGHT:
            distance = centroid(coarse.label, code, coarse.affine) - centroid(fine.label, code, fine.affine)
            assert np.linalg.norm(distance) < 6, f"label {code}"

    def test_hounsfield_units(self) -> None:
        ranges = {6: (35, 145), 1: (30, 160), 4: (-10, 60), 8: (30, 330), 11: (10, 140), 2: (20, 230), 3: (20, 230)}
        for case in (5, 3):
            made = ct_phantom_case(case, in_plane=128, slices=40)
            image, label = made.image, made.label
            assert image.min() >= -1024
            assert image.max() <= 3071
            assert image.min() < -950, "air around the patient"
            assert (image > 200).mean() > 0.005, "bone"
            assert ((image > -130) & (image < -70)).mean() > 0.1, "fat"
            for code, (least, most) in ranges.items():
                assert least < np.median(image[label == code]) < most, f"case {case}, label {code}"
                assert 5 < image[label == code].std() < 130, f"case {case}, label {code}: noise and texture"

    def test_default_size(self) -> None:
        made = ct_phantom_case(5)
        spacing = np.linalg.norm(made.affine[:3, :3], axis=0)
        assert 144 <= made.image.shape[0] == made.image.shape[1] <= 192
        assert 40 <= made.image.shape[2] <= 70
        assert 1.9 <= spacing[0] <= 2.7
        assert 2.9 <= spacing[2] <= 5.3
        # sizes that thick slices and 128 pixels still show, in mm
        voxel = np.prod(spacing)
        for code, least in {4: 25, 11: 20, 8: 20}.items():
            areas = (made.label == code).sum(axis=(0, 1)) * spacing[0] * spacing[1]
            assert np.sqrt(4 / np.pi * areas.max()) >= least
            assert (made.label == code).sum() * voxel > 20_000


class TestHonesty:
    def test_intensity_does_not_give_the_organs(self) -> None:
        for case in (1, 3):
            made = ct_phantom_case(case, in_plane=96, slices=36)
            for way, dice in intensity_baseline(made.image, made.label, (4, 8, 12, 40)).items():
                assert dice.mean() < 0.3, f"case {case}, {way}: {dice.round(2)}"

    def test_baseline_finds_what_intensity_does_give(self) -> None:
        """Eight organs of eight brightnesses: the baseline must reach Dice 1, or it proves nothing."""
        codes = (8, 4, 3, 2, 6, 11, 1, 7)
        label = np.repeat(np.array([0, *codes], np.uint8), 500).reshape(9, 20, 25)
        brightness = {0: -110, **{code: -80 + 40 * i for i, code in enumerate(codes)}}
        image = np.vectorize(brightness.get)(label).astype(np.int16)
        for dice in intensity_baseline(image, label, (12, 40)).values():
            np.testing.assert_allclose(dice, 1.0)

    def test_assignment_against_all_assignments(self) -> None:
        """Four clusters, three organs: all 4^4 ways."""
        rng = np.random.default_rng(3)
        for _ in range(5):
            hits = rng.integers(0, 50, (4, 3)).astype(float)
            sizes = hits.sum(1) + rng.integers(0, 60, 4)
            totals = hits.sum(0)
            best = 0.0
            for owner in np.ndindex(4, 4, 4, 4):
                chosen = np.array([[o == c for c in range(3)] for o in owner])
                best = max(best, (2 * (hits * chosen).sum(0) / ((sizes[:, None] * chosen).sum(0) + totals)).mean())
            assert best_assignment(sizes, hits, totals).mean() == pytest.approx(best)
