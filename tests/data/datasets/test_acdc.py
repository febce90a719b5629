# SPDX-License-Identifier: Apache-2.0
"""ACDC: layouts, the split by patient, frames from Info.cfg, and what is said of bad data."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from monai_ext.data import DATASETS, VolumeReader, load_datalist, read_geometry
from monai_ext.data.datasets.acdc import acdc_part, acdc_patient, find_acdc
from monai_ext.phantoms import mr_phantom_ids, write_mr_phantom
from tests.data.volumes import save

PARTS = ("training", "validation", "test")
# of patients 1 to 60, one of each of several places in the groups of 20
PATIENTS = (1, 2, 14, 15, 16, 17, 20, 21, 34, 35, 37, 41)


def frame(seed: int, shape: tuple[int, ...] = (6, 5, 4)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 900, shape).astype(np.int16), rng.integers(0, 4, shape).astype(np.uint8)


def write_patient(folder: Path, number: int, es: int = 12, suffix: str = ".nii.gz") -> Path:
    home = folder / f"patient{number:03d}"
    for k in (1, es):
        image, label = frame(number + k)
        save(home / f"{home.name}_frame{k:02d}{suffix}", image)
        save(home / f"{home.name}_frame{k:02d}_gt{suffix}", label)
    save(home / f"{home.name}_4d{suffix}", np.zeros((6, 5, 4, 3), np.int16))
    (home / "Info.cfg").write_text(f"ED: 1\nES: {es}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n")
    return home


def write_npz(root: Path, parts: dict[str, list[int]]) -> Path:
    """One npz a training or validation slice, one npz a test volume; more than nine slices, numbers without zeros."""
    for folder, numbers in parts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            for phase in ("ED", "ES"):
                image, label = frame(number, (6, 5, 12))
                if folder == "test":
                    arrays = {"img": np.moveaxis(image, -1, 0), "label": np.moveaxis(label, -1, 0)}
                    np.savez(root / folder / f"case_{number:03d}_volume_{phase}.npz", **arrays)
                    continue
                for k in range(12):
                    name = root / folder / f"case_{number:03d}_slice{phase}_{k}.npz"
                    np.savez(name, img=image[..., k], label=label[..., k])
    return root


def write_h5(root: Path, numbers: list[int], volumes: bool = True) -> Path:
    for number in numbers:
        for k in (1, 12):
            stem = f"patient{number:03d}_frame{k:02d}"
            image, label = frame(number, (6, 5, 11))
            files = {
                root / f"ACDC_training_slices/{stem}_slice_{i}.h5": (image[..., i], label[..., i]) for i in range(11)
            }
            if volumes:
                files[root / f"ACDC_training_volumes/{stem}.h5"] = tuple(np.moveaxis(a, -1, 0) for a in (image, label))
            for path, arrays in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                with h5py.File(path, "w") as h5:
                    h5["image"], h5["label"] = arrays
    return root


def read(name: str) -> np.ndarray:
    return VolumeReader().get_data((name,))[0]


def ids(cases: dict, part: str) -> list[str]:
    return [case["case_id"] for case in cases[part]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acdc")
    for number in PATIENTS:
        write_patient(folder / "database/training", number, es=7 if number == 2 else 12)
    return folder


class TestPublishersFolders:
    @pytest.mark.parametrize("inner", ["", "training", "ACDC/database/training"])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_found_wherever_it_begins(self, tmp_path: Path, inner: str, suffix: str) -> None:
        home = write_patient(tmp_path / inner, 1, suffix=suffix)
        cases = find_acdc(tmp_path).cases
        assert list(cases) == ["patient001_frame01", "patient001_frame12"]
        for case, files in cases.items():
            assert files == {"image": f"{home / case}{suffix}", "label": f"{home / case}_gt{suffix}"}

    def test_the_split_by_patient(self, published: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        cases = load_datalist("acdc", published)
        expected = {"training": (1, 2, 14, 21, 34, 41), "validation": (15, 16, 35), "test": (17, 20, 37)}
        for part, numbers in expected.items():
            frames = [(n, k) for n in numbers for k in (1, 7 if n == 2 else 12)]
            assert ids(cases, part) == [f"patient{n:03d}_frame{k:02d}" for n, k in frames]
        assert cases["label_mapping"] is None
        assert not cases["phantom"]
        assert "12 patients, 24 frames: 12 training, 6 validation, 6 test" in caplog.text
        paper = load_datalist("acdc", published, split="paper")
        assert (len(paper["training"]), len(paper["validation"]), len(paper["test"])) == (18, 0, 6)

    def test_70_10_20_with_every_diagnosis_in_each_part(self) -> None:
        parts = {n: acdc_part(n) for n in range(1, 101)}
        for first in range(1, 101, 20):
            group = [parts[n] for n in range(first, first + 20)]
            assert group == ["training"] * 14 + ["validation"] * 2 + ["test"] * 4

    def test_frames_come_from_info(self, tmp_path: Path) -> None:
        home = write_patient(tmp_path, 1)
        save(home / "patient001_frame05.nii.gz", frame(0)[0])  # neither end-diastole nor end-systole
        (home / "Info.cfg").write_text("ED: 12\r\nES: 1\r\nGroup: NOR\r\n")
        assert list(find_acdc(tmp_path).cases) == ["patient001_frame01", "patient001_frame12"]

    def test_folds_keep_patients_together(self, published: Path) -> None:
        tested = []
        for fold in range(4):
            cases = load_datalist("acdc", published, fold=fold, num_folds=4)
            owners = [{acdc_patient(case) for case in ids(cases, part)} for part in PARTS]
            assert not owners[0] & owners[1] and not owners[0] & owners[2] and not owners[1] & owners[2]
            assert len(owners[2]) == 3 and len(ids(cases, "test")) == 6
            tested += ids(cases, "test")
        assert len(tested) == len(set(tested)) == 24

    def test_the_publishers_testing_folder_is_left_out(self, tmp_path: Path) -> None:
        for number in (1, 15, 17):
            write_patient(tmp_path / "training", number)
        home = write_patient(tmp_path / "testing", 101)
        (home / "patient101_frame01_gt.nii.gz").unlink()  # as in the first release
        cohort = find_acdc(tmp_path)
        assert {acdc_patient(case) for case in cohort.cases} == {"patient001", "patient015", "patient017"}
        assert "patients beyond 100 left out: 1" in cohort.layout

    def test_exclude(self, published: Path) -> None:
        cases = load_datalist("acdc", published, exclude=["patient001_frame12"])
        assert ids(cases, "training")[:2] == ["patient001_frame01", "patient002_frame01"]

    def test_copies_of_a_mac_archive_are_no_patients(self, tmp_path: Path) -> None:
        home = write_patient(tmp_path / "training", 1)
        shutil.copytree(home, tmp_path / "__MACOSX/training/patient001")
        assert len(find_acdc(tmp_path).cases) == 2


class TestPreprocessed:
    def test_folders_are_the_split(self, tmp_path: Path) -> None:
        root = write_npz(tmp_path / "ACDC", {"train": [1, 20], "valid": [3], "test": [2]})
        cases = load_datalist("acdc", tmp_path)
        assert ids(cases, "training") == ["case_001_ED", "case_001_ES", "case_020_ED", "case_020_ES"]
        assert ids(cases, "validation") == ["case_003_ED", "case_003_ES"]
        assert ids(cases, "test") == ["case_002_ED", "case_002_ES"]
        assert cases["test"][0]["image"] == f"{root}/test/case_002_volume_ED.npz::img"
        assert acdc_patient("case_001_ED") == acdc_patient("case_001_ES") == "case_001"

    def test_npz_come_back_as_they_are_in_the_order_of_slices(self, tmp_path: Path) -> None:
        write_npz(tmp_path, {"train": [1], "test": [2]})
        for case, files in find_acdc(tmp_path).cases.items():
            image, label = frame(int(case[5:8]), (6, 5, 12))
            np.testing.assert_array_equal(read(files["image"]), image)
            np.testing.assert_array_equal(read(files["label"]), label)
            assert read_geometry(files["image"])[0] == (6, 5, 12)

    @pytest.mark.parametrize("volumes", [True, False])
    def test_h5_come_back_as_they_are(self, tmp_path: Path, volumes: bool) -> None:
        write_h5(tmp_path, [1, 15, 17, 120], volumes)
        cases = load_datalist("acdc", tmp_path)
        assert ids(cases, "training") == ["patient001_frame01", "patient001_frame12"]
        assert ids(cases, "validation") == ["patient015_frame01", "patient015_frame12"]
        assert ids(cases, "test") == ["patient017_frame01", "patient017_frame12"]
        assert ("volumes" in cases["test"][0]["image"]) == volumes
        for case in cases["training"] + cases["test"]:
            image, label = frame(int(case["case_id"][7:10]), (6, 5, 11))
            np.testing.assert_array_equal(read(case["image"]), image)
            np.testing.assert_array_equal(read(case["label"]), label)
            assert read_geometry(case["image"])[0] == (6, 5, 11)

    def test_slices_of_different_size(self, tmp_path: Path) -> None:
        write_npz(tmp_path, {"train": [1]})
        np.savez(tmp_path / "train/case_001_sliceED_10.npz", img=np.zeros((6, 4)), label=np.zeros((6, 4)))
        with pytest.raises(ValueError, match=r"case_001_sliceED_10\.npz: \(6, 4\), but case_001_sliceED_0\.npz has"):
            read(find_acdc(tmp_path).cases["case_001_ED"]["image"])

    def test_a_missing_array_is_named(self, tmp_path: Path) -> None:
        write_h5(tmp_path, [1])
        with pytest.raises(ValueError, match=r"patient001_frame01\.h5: cannot be read"):
            read(f"{tmp_path}/ACDC_training_volumes/patient001_frame01.h5::scribble")

    def test_a_patient_in_two_parts(self, tmp_path: Path) -> None:
        write_npz(tmp_path, {"train": [1, 2], "test": [2]})
        with pytest.raises(ValueError, match=r"case_002 is in train and in test"):
            find_acdc(tmp_path)


class TestBadData:
    def test_missing_ground_truth(self, tmp_path: Path) -> None:
        (write_patient(tmp_path, 1) / "patient001_frame12_gt.nii.gz").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"patient001_frame12_gt\.nii\.gz: no such file, the ground truth of ES"
        ):
            load_datalist("acdc", tmp_path)

    def test_a_folder_without_any_frame(self, tmp_path: Path) -> None:
        for path in write_patient(tmp_path, 1).glob("*.nii.gz"):
            path.unlink()
        write_patient(tmp_path, 2)
        with pytest.raises(FileNotFoundError, match=r"patient001_frame01\.nii\.gz: no such file.*found no frame"):
            load_datalist("acdc", tmp_path)

    def test_missing_info(self, tmp_path: Path) -> None:
        (write_patient(tmp_path, 1) / "Info.cfg").unlink()
        with pytest.raises(FileNotFoundError, match=r"patient001/Info\.cfg: no such file.*end-diastole"):
            load_datalist("acdc", tmp_path)

    @pytest.mark.parametrize("text", ["", "ED: 1\nGroup: NOR\n", "ED: one\nES: 12\n"])
    def test_info_without_frames(self, tmp_path: Path, text: str) -> None:
        (write_patient(tmp_path, 1) / "Info.cfg").write_text(text)
        with pytest.raises(ValueError, match=r"Info\.cfg: expected lines such as 'ED: 1'"):
            load_datalist("acdc", tmp_path)

    def test_missing_frame(self, tmp_path: Path) -> None:
        (write_patient(tmp_path, 1) / "Info.cfg").write_text("ED: 1\nES: 9\n")
        message = r"patient001_frame09\.nii\.gz: no such file, but Info\.cfg names it as ES; found patient001_frame01"
        with pytest.raises(FileNotFoundError, match=message):
            load_datalist("acdc", tmp_path)

    def test_shapes_that_differ(self, tmp_path: Path) -> None:
        for number in (1, 15, 17):
            home = write_patient(tmp_path, number)
        save(home / "patient017_frame01_gt.nii.gz", frame(0, (6, 5, 3))[1])
        message = r"patient017_frame01_gt\.nii\.gz: 6x5x3 voxels, but .*6x5x4.*--exclude"
        with pytest.raises(ValueError, match=message):
            load_datalist("acdc", tmp_path)

    def test_other_ids(self, tmp_path: Path) -> None:
        write_patient(tmp_path, 101)
        write_patient(tmp_path, 777)
        with pytest.raises(
            ValueError, match=r"patient101, patient777 are none of ACDC's patients 001 to 100.*--datalist"
        ):
            load_datalist("acdc", tmp_path)

    def test_a_patient_twice(self, tmp_path: Path) -> None:
        write_patient(tmp_path / "a", 1)
        write_patient(tmp_path / "b", 1)
        with pytest.raises(ValueError, match=r"b/patient001: the same patient as in .*a/patient001"):
            load_datalist("acdc", tmp_path)

    @pytest.mark.parametrize("content", [None, "holiday.jpg"])
    def test_nothing_there(self, tmp_path: Path, content: str | None) -> None:
        if content:
            (tmp_path / content).touch()
        message = rf"no ACDC data found\. Expected .*Info\.cfg.*; found {content or 'an empty folder'}\."
        with pytest.raises(FileNotFoundError, match=message):
            load_datalist("acdc", tmp_path)


class TestPhantom:
    def test_is_read_as_the_publishers_data(self, tmp_path: Path) -> None:
        write_mr_phantom(tmp_path, 5, progress=False, in_plane=24, slices=4)
        cases = load_datalist("acdc", tmp_path)
        assert cases["phantom"]
        assert [len(cases[part]) for part in PARTS] == [6, 2, 2]
        for part in PARTS:
            for case in cases[part]:
                assert set(np.unique(read(case["label"]))) <= {0, 1, 2, 3}

    @pytest.mark.parametrize("count", range(5, 101, 5))
    def test_any_number_of_patients_reaches_every_part(self, count: int) -> None:
        parts = [acdc_part(patient) for patient in mr_phantom_ids(count)]
        assert all(part in parts for part in PARTS)
        if count % 10 == 0:
            assert [parts.count(part) * 10 // count for part in PARTS] == [7, 1, 2]

    def test_description(self) -> None:
        info = DATASETS["acdc"]
        assert info.class_names == ("right ventricle", "myocardium", "left ventricle")
        assert info.phantom_cases == 20
        assert info.patient("patient001_frame01") == "patient001"
