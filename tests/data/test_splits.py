# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from monai_ext.data.splits import fold_parts, hold_out, random_parts

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


@pytest.mark.parametrize(
    ("fold", "folds", "words"), [(5, 5, "0 to 4, got 5"), (-1, 5, "got -1"), (0, 20, "11 patients")]
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
