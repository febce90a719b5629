# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from monai_ext.data import DATASETS, load_datalist
from monai_ext.data.splits import evenly_spread, fold_parts, hold_out, random_parts, share_of_process
from tests.data.volumes import write_acdc, write_raw_synapse

CASES = [f"p{patient:02d}_{frame}" for patient in range(11) for frame in ("a", "b")]


def patient(case: str) -> str:
    return case.partition("_")[0]


def test_folds_partition_the_cases_and_keep_patients_together():
    tests = [fold_parts(CASES, fold, 5, patient)["test"] for fold in range(5)]
    assert sorted(case for test in tests for case in test) == sorted(CASES)
    for fold, test in enumerate(tests):
        training = fold_parts(CASES, fold, 5, patient)["training"]
        assert sorted(training + test) == sorted(CASES)
        assert not {patient(c) for c in training} & {patient(c) for c in test}
        assert test == fold_parts(CASES[::-1], fold, 5, patient)["test"][::-1]  # whatever the order of the list


def test_sorted_folds_are_runs_of_names_within_each_kind():
    cases = [f"{kind} ({i})" for kind in ("benign", "malignant") for i in (1, 2, 3, 4)]
    parts = fold_parts(cases, 1, 2, stratum=lambda name: name.partition(" ")[0])
    assert parts["test"] == ["benign (3)", "benign (4)", "malignant (3)", "malignant (4)"]


def write_volumes(name: str, folder: Path) -> None:
    if name == "acdc":
        write_acdc(folder, list(range(1, 12)))
    else:
        write_raw_synapse(folder, [*range(1, 11), 22], shape=(4, 4, 3))


VOLUMES = ["synapse", "acdc"]


@pytest.mark.parametrize("name", [*VOLUMES, "own list"])
def test_folds_of_volumes_partition_the_cases(name, tmp_path):
    """Pictures: tests/data/datasets/test_picture_datasets.py."""
    write_volumes(name, tmp_path)
    source: dict = {"dataset_name": name, "dataset_dir": tmp_path}
    if name == "own list":
        cases = load_datalist("synapse", tmp_path)
        pairs = {part: [{k: c[k] for k in ("image", "label")} for c in cases[part]] for part in ("training", "test")}
        (tmp_path / "list.json").write_text(json.dumps(pairs))
        source = {"datalist": tmp_path / "list.json"}
    parts = [load_datalist(**source, fold=fold) for fold in range(5)]
    ids = [
        {part: [c["case_id"] for c in cases[part]] for part in ("training", "validation", "test")} for cases in parts
    ]
    tested = [case for fold in ids for case in fold["test"]]
    of = DATASETS[name].patient if name in DATASETS else str
    assert len(tested) == len(set(tested)) >= 9
    for fold in ids:
        assert all(fold.values())
        assert sorted(fold["training"] + fold["validation"] + fold["test"]) == sorted(tested)
        patients = [set(map(of, cases)) for cases in fold.values()]
        assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    whole = load_datalist(**source, fold=2, split="paper")
    assert sorted(c["case_id"] for c in whole["training"]) == sorted(ids[2]["training"] + ids[2]["validation"])
    with pytest.raises(ValueError, match="^monai_ext: fold must be 0 to 4, got 5"):
        load_datalist(**source, fold=5)


@pytest.mark.parametrize(
    ("fold", "folds", "words"),
    [
        (5, 5, "0 to 4, got 5"),
        (-1, 5, "got -1"),
        (1.5, 5, r"0 to 4, got 1\.5"),
        ("all", 5, "0 to 4, got 'all'"),
        (0, 20, "11 patients"),
    ],
)
def test_impossible_folds(fold, folds, words):
    with pytest.raises(ValueError, match=words):
        fold_parts(CASES, fold, folds, patient)


def test_a_seeded_split_is_written_and_used_again(tmp_path):
    file = tmp_path / "out" / "split.json"
    parts = random_parts(CASES, 0.2, patient, file, "here")
    assert len(parts["test"]) == 4
    assert json.loads(file.read_text()) == parts
    assert random_parts(CASES[::-1], 0.2, patient, None, "here")["test"] == parts["test"][::-1]
    parts["test"], parts["training"] = parts["training"][:2], parts["test"] + parts["training"][2:]
    file.write_text(json.dumps(parts))  # a user's own hand
    assert random_parts(CASES, 0.2, patient, file, "here") == parts


def test_a_split_of_other_cases_or_none(tmp_path):
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"training": ["x"], "validation": [], "test": CASES}))
    with pytest.raises(ValueError, match=r"split.json: a split of other cases than those of here \(such as x\)"):
        random_parts(CASES, 0.2, patient, file, "here")
    file.write_text('{"training": ')
    with pytest.raises(ValueError, match="split.json: no split of cases"):
        random_parts(CASES, 0.2, patient, file, "here")
    with pytest.raises(ValueError, match=r"here: 1 case\(s\), too few"):
        random_parts(["one"], 0.2, str, None, "here")


def test_hold_out_spreads_over_the_list():
    training, validation = hold_out([f"{i:02d}" for i in range(18)], str, "here")
    assert validation == ["03", "09", "15"]
    assert len(training) == 15
    training, validation = hold_out(CASES, patient, "here")
    assert len({patient(c) for c in validation}) == 2
    assert not {patient(c) for c in validation} & {patient(c) for c in training}


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_every_process_has_a_case_and_every_case_a_process(count, monkeypatch):
    cases = list(range(count))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    shares = []
    for rank in range(4):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(share_of_process(cases))
    assert all(shares)
    assert set().union(*shares) == set(cases)
    assert sum(map(len, shares)) == max(count, 4)


def test_places_are_spread_evenly():
    assert evenly_spread(18, 3) == {3, 9, 15}
    assert evenly_spread(5, 0) == set()
    assert evenly_spread(4, 4) == {0, 1, 2, 3}
    assert hold_out([f"{i:02d}" for i in range(18)], str, "x")[1] == ["03", "09", "15"]


def test_nothing_to_share():
    with pytest.raises(ValueError, match="^monai_ext: no case to share"):
        share_of_process([])
