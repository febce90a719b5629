# SPDX-License-Identifier: Apache-2.0
"""The cardiac MR phantom: the publisher's layout, a heart that beats, classes not given by brightness."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.mr_honesty import brightness_baseline
from monai_ext.phantoms import MRCase, mr_phantom_case, mr_phantom_ids, read_marker, write_mr_phantom

RV, MYO, LV = 1, 2, 3
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")
TINIEST = {"in_plane": 24, "slices": 4}  # where only the files matter
FIVE = (1, 21, 57, 75, 81)


def volume(case: MRCase, phase: str, code: int) -> float:
    """In ml."""
    return float((case.labels[phase] == code).sum() * abs(np.linalg.det(case.affine[:3, :3])) / 1000)


def centroid(case: MRCase, code: int, phase: str = "ED") -> np.ndarray:
    return case.affine[:3, :3] @ np.argwhere(case.labels[phase] == code).mean(0) + case.affine[:3, 3]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_mr_phantom(folder, 5, progress=False, workers=2, **TINIEST)
    return folder


@pytest.fixture(scope="module")
def hearts() -> dict[int, MRCase]:
    """The default cohort on a coarser grid."""
    return {patient: mr_phantom_case(patient, in_plane=80) for patient in mr_phantom_ids()}


class TestCohort:
    def test_layout_as_published(self, cohort: Path) -> None:
        expected = ["PHANTOM.json"]
        for patient in FIVE:
            home = f"training/patient{patient:03d}"
            info = dict(line.split(": ") for line in (cohort / home / "Info.cfg").read_text().splitlines())
            assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
            assert info["Group"] == GROUPS[(patient - 1) // 20]
            for number in (info["ED"], info["ES"]):
                stem = f"{home}/patient{patient:03d}_frame{int(number):02d}"
                expected += [f"{stem}.nii.gz", f"{stem}_gt.nii.gz"]
            expected.append(f"{home}/Info.cfg")
        assert sorted(str(p.relative_to(cohort)) for p in cohort.rglob("*") if p.is_file()) == sorted(expected)

    def test_files_of_a_patient_share_one_grid(self, cohort: Path) -> None:
        files = [nib.load(path) for path in sorted((cohort / "training/patient001").glob("*.nii.gz"))]
        assert [file.get_data_dtype() for file in files] == [np.int16, np.uint8] * 2
        for file in files:
            assert file.shape == files[0].shape
            np.testing.assert_array_equal(file.affine, files[0].affine)
            assert b"phantom" in bytes(file.header["descrip"])

    def test_says_that_it_is_a_phantom(self, cohort: Path) -> None:
        marker = read_marker(cohort)
        assert marker is not None
        assert (marker["phantom"], marker["seed"], marker["cases"]) == (True, 0, list(FIVE))
        assert marker["note"] == "phantom data, no clinical meaning"

    def test_same_voxels_whatever_else_is_written(self, cohort: Path) -> None:
        for patient in FIVE[:2]:
            case = mr_phantom_case(patient, **TINIEST)
            for phase in ("ED", "ES"):
                stem = f"training/patient{patient:03d}/patient{patient:03d}_frame{case.info[phase]:02d}"
                for voxels, suffix in ((case.images[phase], ""), (case.labels[phase], "_gt")):
                    file = nib.load(cohort / f"{stem}{suffix}.nii.gz")
                    np.testing.assert_array_equal(np.asarray(file.dataobj), voxels)
                    np.testing.assert_allclose(file.affine, case.affine, atol=1e-4)

    def test_resumes_with_what_is_missing_and_grows(self, tmp_path: Path) -> None:
        write_mr_phantom(tmp_path, 5, progress=False, **TINIEST)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
        lost = next((tmp_path / "training/patient021").glob("*_gt.nii.gz"))
        lost.unlink()
        (tmp_path / "training/patient057/Info.cfg").unlink()
        (tmp_path / "PHANTOM.json").unlink()
        write_mr_phantom(tmp_path, 6, progress=False, **TINIEST)
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
        assert {path.parent.name for path in after if after[path] != before.get(path)} == {
            "patient002",
            "patient021",
            "patient057",
        }
        assert before.keys() < after.keys()
        marker = read_marker(tmp_path)
        assert marker is not None and marker["cases"] == [*FIVE, 2]

    def test_ids(self) -> None:
        assert sorted(mr_phantom_ids(100)) == list(range(1, 101))
        for count in (5, 10, 20, 50):
            ids = mr_phantom_ids(count)
            assert ids == mr_phantom_ids(100)[:count]
            assert {(patient - 1) // 20 for patient in ids} == set(range(5))


class TestAnatomy:
    def test_seeds_and_patients_differ(self) -> None:
        first = mr_phantom_case(1, in_plane=48, slices=8)
        np.testing.assert_array_equal(first.images["ES"], mr_phantom_case(1, in_plane=48, slices=8).images["ES"])
        other = mr_phantom_case(1, seed=1, in_plane=48, slices=8)
        assert other.images["ED"].shape != first.images["ED"].shape or (other.labels["ED"] != first.labels["ED"]).any()
        assert abs(volume(other, "ED", LV) - volume(first, "ED", LV)) > 0.5

    def test_every_class_at_both_moments(self, hearts: dict[int, MRCase]) -> None:
        for patient, case in hearts.items():
            for phase in ("ED", "ES"):
                assert set(np.unique(case.labels[phase])) == {0, 1, 2, 3}, f"patient {patient}, {phase}"

    def test_volumes_are_those_of_adults(self, hearts: dict[int, MRCase]) -> None:
        """In ml, at end-diastole; the muscle keeps its volume."""
        for patient, case in hearts.items():
            for code, (least, most) in {RV: (45, 220), MYO: (60, 270), LV: (50, 260)}.items():
                assert least < volume(case, "ED", code) < most, f"patient {patient}, class {code}"
            assert volume(case, "ES", MYO) == pytest.approx(volume(case, "ED", MYO), rel=0.2), f"patient {patient}"

    def test_ejection_by_diagnosis(self, hearts: dict[int, MRCase]) -> None:
        ejected: dict[str, list[float]] = {group: [] for group in GROUPS}
        for case in hearts.values():
            share = 1 - volume(case, "ES", LV) / volume(case, "ED", LV)
            ejected[str(case.info["Group"])].append(share)
            assert volume(case, "ES", RV) < 0.9 * volume(case, "ED", RV)
            assert 0.05 < share < 0.88
        means = {group: np.mean(shares) for group, shares in ejected.items()}
        assert means["DCM"] < means["MINF"] < means["NOR"] < means["HCM"]
        assert means["DCM"] < 0.42 and means["NOR"] > 0.55

    def test_diagnoses_show(self, hearts: dict[int, MRCase]) -> None:
        def mean(group: str, code: int) -> float:
            return float(np.mean([volume(c, "ED", code) for c in hearts.values() if c.info["Group"] == group]))

        assert mean("DCM", LV) > 1.4 * mean("NOR", LV)
        assert mean("HCM", MYO) > 1.2 * mean("NOR", MYO)
        assert mean("RV", RV) > 1.3 * mean("NOR", RV)

    def test_the_wall_closes_around_the_cavity(self, hearts: dict[int, MRCase]) -> None:
        """In no slice does the left cavity touch background or the right ventricle."""
        for patient, case in hearts.items():
            for phase, label in case.labels.items():
                for axis in (0, 1):
                    for step in (1, -1):
                        beside = np.roll(label, step, axis)[label == LV]
                        assert set(np.unique(beside)) <= {MYO, LV}, f"patient {patient}, {phase}"

    def test_apex_and_base(self, hearts: dict[int, MRCase]) -> None:
        """From the apex to the base: slices without right ventricle, slices with all, often slices with nothing."""
        empty = 0
        for patient, case in hearts.items():
            up = case.affine[2, 2] > 0
            label = case.labels["ES"] if up else case.labels["ES"][..., ::-1]
            has = {code: [bool((plane == code).any()) for plane in np.moveaxis(label, -1, 0)] for code in (RV, MYO, LV)}
            first = {code: present.index(True) for code, present in has.items()}
            assert first[RV] > first[MYO], f"patient {patient}"
            assert 4 <= sum(has[LV]) <= 11
            empty += not label[..., -1].any()
            middle = slice(first[RV], len(has[RV]) - has[RV][::-1].index(True))
            assert all(has[RV][middle])
        assert empty > 0.6 * len(hearts)

    def test_orientations_and_spacing(self, hearts: dict[int, MRCase]) -> None:
        codes = {"".join(nib.aff2axcodes(case.affine)) for case in hearts.values()}
        assert codes == {"LPS", "RAS", "LPI", "LAS", "RPS"}
        tilted = 0
        for case in hearts.values():
            direction = case.affine[:3, :3] / np.linalg.norm(case.affine[:3, :3], axis=0)
            tilted += np.abs(direction).max(0).min() < 0.995
            assert 8 <= case.images["ED"].shape[2] <= 12
            assert 7.9 < np.linalg.norm(case.affine[:3, 2]) < 10.1
        assert 0 < tilted < len(hearts)

    def test_the_heart_lies_where_the_affine_says(self, hearts: dict[int, MRCase]) -> None:
        for patient, case in hearts.items():
            right = centroid(case, RV) - centroid(case, LV)
            assert right[0] > 20, f"patient {patient}: the right ventricle is on the right"
            assert np.linalg.norm(centroid(case, MYO) - centroid(case, LV)) < 15

    def test_another_grid_shows_the_same_patient(self) -> None:
        coarse, fine = (mr_phantom_case(61, in_plane=n, slices=k) for n, k in ((60, 12), (120, 12)))
        for code in (RV, MYO, LV):
            assert np.linalg.norm(centroid(coarse, code) - centroid(fine, code)) < 4
            assert volume(coarse, "ED", code) == pytest.approx(volume(fine, "ED", code), rel=0.15)

    def test_default_size(self) -> None:
        case = mr_phantom_case(61)
        spacing = np.linalg.norm(case.affine[:3, :3], axis=0)
        assert all(128 <= n <= 216 for n in case.images["ED"].shape[:2])
        assert 1.37 <= spacing[0] <= 1.7 and spacing[0] == pytest.approx(spacing[1])

    def test_brightness(self, hearts: dict[int, MRCase]) -> None:
        """Blood is bright on dark muscle in every patient, but no two scanners agree on units."""
        blood = []
        for patient, case in hearts.items():
            image, label = case.images["ED"], case.labels["ED"]
            assert image.min() >= 0
            inside = np.median(image[label == LV])
            assert 1.5 < inside / np.median(image[label == MYO]) < 4, f"patient {patient}"
            assert (image > 0.8 * inside).sum() > 2 * np.isin(label, (LV, RV)).sum(), f"patient {patient}"
            assert image[label == LV].std() > 0.05 * inside, f"patient {patient}: noise and papillary muscles"
            blood.append(inside)
        assert max(blood) > 2 * min(blood)


class TestHonesty:
    def test_brightness_does_not_give_the_classes(self, hearts: dict[int, MRCase]) -> None:
        for patient in FIVE:
            for phase, image in hearts[patient].images.items():
                for way, dice in brightness_baseline(image, hearts[patient].labels[phase]).items():
                    assert dice.mean() < 0.4, f"patient {patient}, {phase}, {way}: {dice.round(2)}"

    def test_baseline_finds_what_brightness_does_give(self) -> None:
        label = np.repeat(np.arange(4), 250).reshape(10, 10, 10)
        for way, dice in brightness_baseline(100 * label, label, (4, 40)).items():
            np.testing.assert_allclose(dice, 1.0, err_msg=way)
