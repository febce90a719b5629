# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from monai_ext.data import DATASETS, load_datalist, phantom_dir
from tests.data.volumes import RAS, save, volume, write_preprocessed_synapse, write_raw_synapse

TRAINING = [5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40]
TEST = [1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38]


def ids(cases: list[dict]) -> list[int]:
    return [int(case["case_id"]) for case in cases]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_raw_synapse(tmp_path_factory.mktemp("raw"), TRAINING + TEST, shape=(4, 4, 3))


def test_the_published_split_by_case_id(raw, caplog):
    caplog.set_level(logging.INFO)
    cases = load_datalist("synapse", raw)
    assert ids(cases["validation"]) == [9, 27, 37]
    assert sorted(ids(cases["training"]) + ids(cases["validation"])) == TRAINING
    assert ids(cases["test"]) == TEST
    assert not cases["phantom"]
    assert "publisher's NIfTI tree in" in caplog.text
    assert "15 training, 3 validation, 12 test" in caplog.text
    paper = load_datalist("synapse", raw, split="paper")
    assert (ids(paper["training"]), paper["validation"], ids(paper["test"])) == (TRAINING, [], TEST)


def test_the_publishers_codes_become_the_papers_order():
    mapping = load_mapping = DATASETS["synapse"].find.__globals__["RAW_MAPPING"]
    names = DATASETS["synapse"].class_names
    assert {names[c - 1]: raw for raw, c in mapping.items() if c} == {
        "aorta": 8,
        "gallbladder": 4,
        "left kidney": 3,
        "right kidney": 2,
        "liver": 6,
        "pancreas": 11,
        "spleen": 1,
        "stomach": 7,
    }
    assert sorted(load_mapping) == list(range(14))


@pytest.mark.parametrize("inner", ["", "Abdomen/RawData/Training"])
@pytest.mark.parametrize(("images", "labels"), [("img", "label"), ("imagesTr", "labelsTr")])
def test_the_tree_is_found_wherever_it_begins(tmp_path, inner, images, labels):
    for case in (5, 6, 1):
        save(tmp_path / inner / images / f"img{case:04d}.nii.gz", volume(case)[0])
        save(tmp_path / inner / labels / f"label{case:04d}.nii.gz", volume(case)[1])
    cases = load_datalist("synapse", tmp_path)
    assert (ids(cases["training"]), ids(cases["validation"]), ids(cases["test"])) == ([5], [6], [1])


@pytest.mark.parametrize(("codes", "mapped"), [(9, False), (14, True)])
def test_preprocessed_files_of_both_codings(tmp_path, codes, mapped):
    root = write_preprocessed_synapse(tmp_path / "s", [5, 6, 7], [8, 22], codes)
    cases = load_datalist("synapse", root)
    assert sorted(ids(cases["training"] + cases["validation"])) == [5, 6, 7]
    assert ids(cases["test"]) == [8, 22]
    assert (cases["label_mapping"] is not None) == mapped


def test_exclude(raw):
    assert 5 not in ids(load_datalist("synapse", raw, exclude=[5, "0001"])["training"])
    assert 1 not in ids(load_datalist("synapse", raw, exclude=[5, "0001"])["test"])


def all_ids(cases: dict) -> set[str]:
    return {case["case_id"] for part in ("training", "validation", "test") for case in cases[part]}


@pytest.mark.parametrize(
    ("exclude", "gone"),
    [
        ("0021", {"0021"}),
        (21, {"0021"}),
        ("21", {"0021"}),
        ("0001,0002", {"0001", "0002"}),
        ("[1, 2]", {"0001", "0002"}),
        ("[0001,0002]", {"0001", "0002"}),
        ("['0001']", {"0001"}),
        ((1, "0002"), {"0001", "0002"}),
        ([], set()),
        ("", set()),
        (None, set()),
    ],
)
def test_exclude_takes_what_a_command_line_gives(raw, exclude, gone):
    every = {f"{case:04d}" for case in TRAINING + TEST}
    assert all_ids(load_datalist("synapse", raw, exclude=exclude, check=False)) == every - gone


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ("0051", r"no case '0051' in .*Nearest: 00"),
        (["1", "liver"], "no case 'liver' in .*Nearest: "),
        (2.5, "no case '2.5' in"),
        (True, "exclude must be a word, or several with commas between, got True"),
        ({"a": 1}, "exclude must be a word"),
    ],
)
def test_what_is_no_case_is_not_left_out_in_silence(raw, exclude, message):
    with pytest.raises(ValueError, match=f"^monai_ext: .*{message}"):
        load_datalist("synapse", raw, exclude=exclude, check=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": "two"}, "fold must be 0 or more, got 'two'"),
        ({"fold": True}, "fold must be 0 or more, got True"),
        ({"fold": 1.5}, "fold must be 0 or more, got 1.5"),
        ({"fold": 5}, "fold must be 0 to 4, got 5"),
        ({"fold": 0, "num_folds": 1}, "num_folds must be 2 or more, got 1"),
        ({"fold": 0, "num_folds": "many"}, "num_folds must be 2 or more, got 'many'"),
        ({"split": 1}, "split must be 'holdout' or 'paper', got 1"),
        ({"check": "perhaps"}, "'perhaps': expected true or false"),
        ({"dataset_name": ["synapse"]}, r"unknown dataset \['synapse'\]"),
        ({"dataset_dir": True}, "dataset_dir must be a file or folder, got True"),
        ({"datalist": True}, "datalist must be a file or folder, got True"),
    ],
)
def test_options_of_another_type(raw, options, message):
    with pytest.raises(ValueError, match=f"^monai_ext: {message}"):
        load_datalist(**{"dataset_name": "synapse", "dataset_dir": raw, **options})


def test_options_as_texts(raw, tmp_path):
    for fold in ("1", 1, 1.0):
        folded = load_datalist("synapse", raw, fold=fold, num_folds="3", check="false")
        assert len(folded["test"]) == 10
        assert folded == load_datalist("synapse", raw, fold=1, num_folds=3, check=False)
    assert ids(load_datalist("synapse", raw, fold="none", check=False)["test"]) == TEST
    (tmp_path / "2024").symlink_to(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert ids(load_datalist("synapse", 2024, check=False)["test"]) == TEST


def test_own_list(tmp_path):
    for case in "abcdefg":
        save(tmp_path / f"scans/{case}.nii.gz", volume()[0])
        save(tmp_path / f"truth/{case}.nii.gz", volume()[1])
    entry = {c: {"image": f"scans/{c}.nii.gz", "label": f"truth/{c}.nii.gz"} for c in "abcdefg"}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"training": [entry[c] for c in "abcdef"], "test": [entry["g"]]}))
    cases = load_datalist(datalist=file)
    assert [c["case_id"] for c in cases["training"]] == list("abcef")
    assert [c["case_id"] for c in cases["validation"]] == ["d"]
    assert cases["test"][0]["image"] == str(tmp_path / "scans/g.nii.gz")
    assert cases["label_mapping"] is None
    file.write_text(json.dumps({"training": [entry["a"]], "validation": [entry["b"]]}))
    assert [c["case_id"] for c in load_datalist(datalist=file)["validation"]] == ["b"]


def test_phantom_is_made_once_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MONAI_DATA_DIRECTORY", str(tmp_path))
    made = []

    def write(folder, cases):
        assert cases == 30
        made.append(folder)
        write_raw_synapse(folder, [5, 6, 1])
        (folder / "PHANTOM.json").write_text("{}")

    monkeypatch.setitem(
        DATASETS, "synapse", DATASETS["synapse"].__class__(**{**vars(DATASETS["synapse"]), "write_phantom": write})
    )
    caplog.set_level(logging.INFO)
    assert phantom_dir("synapse") == phantom_dir("synapse")
    assert len(made) == 1
    assert load_datalist("synapse", phantom_dir("synapse"))["phantom"]
    assert "phantom data, no clinical meaning" in caplog.text


def break_label(change):
    def damage(root):
        change(root / "RawData/Training/label/label0005.nii.gz")

    return damage


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (break_label(lambda p: p.unlink()), FileNotFoundError, r"img0005\.nii\.gz: no label of case 0005"),
        (
            break_label(lambda p: save(p, np.zeros((4, 4, 5), np.uint8))),
            ValueError,
            r"label0005\.nii\.gz: 4x4x5 voxels, but img0005\.nii\.gz has 24x20x6\. .*--exclude",
        ),
        (
            break_label(lambda p: save(p, volume()[1], RAS @ np.diag([-1, 1, 1, 1]))),
            ValueError,
            r"label0005\.nii\.gz: its affine places voxels up to 96 mm away from those of img0005\.nii\.gz",
        ),
        (
            break_label(lambda p: p.write_bytes(p.read_bytes()[:500])),
            ValueError,
            r"label0005\.nii\.gz: cannot be read .*damaged or cut off",
        ),
    ],
)
def test_bad_pairs(tmp_path, damage, error, message):
    root = write_raw_synapse(tmp_path, [5, 6, 1])
    damage(root)
    with pytest.raises(error, match=message):
        load_datalist("synapse", root)


def test_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*no such folder"):
        load_datalist("synapse", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="found an empty folder"):
        load_datalist("synapse", tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"no Synapse data found\. Expected .*train_npz.*found holiday\.jpg"):
        load_datalist("synapse", tmp_path)
    with pytest.raises(ValueError, match="none of Synapse's 30.*--datalist"):
        load_datalist("synapse", write_raw_synapse(tmp_path, [77]))
    with pytest.raises(ValueError, match="1 training case.*at least 2.*--split paper"):
        load_datalist("synapse", write_raw_synapse(tmp_path / "few", [5, 1]))
    with pytest.raises(ValueError, match="no training case"):
        load_datalist("synapse", write_raw_synapse(tmp_path / "none", [1]), split="paper")


def test_bad_arguments_and_lists(tmp_path, raw):
    with pytest.raises(ValueError, match=r"unknown dataset 'synaps'.*Did you mean 'synapse'"):
        load_datalist("synaps", raw)
    with pytest.raises(ValueError, match="split must be 'holdout' or 'paper', got 'all'"):
        load_datalist("synapse", raw, split="all")
    file = tmp_path / "list.json"
    with pytest.raises(FileNotFoundError, match=r"list\.json: no such file"):
        load_datalist(datalist=file)
    for content, message in (
        ("{", "no valid JSON"),
        ("[]", 'expected {"training"'),
        ('{"training": [{"image": "a"}]}', r"training\[0\] is"),
        ('{"training": [{"image": "a", "label": "b"}, {"image": "c", "label": "d"}]}', "no such file"),
    ):
        file.write_text(content)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_datalist(datalist=file)
