# SPDX-License-Identifier: Apache-2.0
"""A run can be started again from its record, and a model is not tested on what it was trained on."""

from __future__ import annotations

import json
import shutil
import socket
import sys

import nibabel
import numpy as np
import pytest
import torch

from monai_ext.__main__ import main
from monai_ext.apps.reproduce import reproduce
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import trained_with
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.handlers.run_record import version_of
from tests.bundles.runs import run
from tests.data.volumes import save, volume, write_raw_synapse

SMALL = {"image_size": [32, 32], "num_workers": 0, "batch_size": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One epoch with overrides, a nested one among them."""
    folder = tmp_path_factory.mktemp("run")
    data = write_raw_synapse(folder / "data", [5, 6, 7, 9, 1, 2])
    override = {**SMALL, "dataset_dir": str(data), "output_dir": str(folder / "a"), "ckpt_dir": str(folder / "a")}
    override |= {"seed": 3, "epochs": 1, "val_interval": 1, "lr_scheduler#T_max": 7}
    run("dcaunet_synapse", "train", **override)
    return folder, data


def test_the_record_says_what_the_run_was(trained):
    folder, data = trained
    text = (folder / "a" / "run_training.json").read_text()
    record = json.loads(text)
    assert record["bundle"] == "dcaunet_synapse"
    assert record["seed"] == 3
    assert record["phantom"] is False
    assert record["config"]["lr_scheduler"]["T_max"] == 7
    assert record["config"]["bundle_root"] == "$monai_ext.bundle_root('dcaunet_synapse')"
    assert record["versions"]["torch"] == torch.__version__
    assert [case["case"] for case in record["cases"] if case["part"] == "training"] == ["0005", "0006", "0009"]
    assert record["cases"][0]["image"] == hash_file(data / "RawData/Training/img/img0005.nii.gz")
    assert socket.gethostname() not in text
    assert json.loads((folder / "a" / "model.cases.json").read_text())["cases"] == record["cases"]


def test_a_package_that_python_knows_no_version_of_stops_no_run():
    assert version_of("no-such-package") == "not installed"
    assert version_of("torch") == torch.__version__


def test_a_training_started_again_ends_with_the_same_weights(trained, monkeypatch, capsys):
    folder, _ = trained
    record = folder / "a" / "run_training.json"
    monkeypatch.setattr(sys, "argv", ["monai_ext", "reproduce", str(record), "--output_dir", str(folder / "b")])
    main()
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "b")
    first, second = (torch.load(folder / name / "model.pt", weights_only=True) for name in "ab")
    assert all(torch.equal(first[key], second[key]) for key in first)
    again = json.loads((folder / "b" / "run_training.json").read_text())
    assert again["cases"] == json.loads(record.read_text())["cases"]


def test_a_run_on_other_data_is_refused(trained, tmp_path):
    folder, data = trained
    shutil.copytree(data, tmp_path / "data")
    save(tmp_path / "data/RawData/Training/img/img0006.nii.gz", volume(70)[0])
    with pytest.raises(ValueError, match=r"run_training\.json: 1 cases are not those .*: training case 0006"):
        reproduce(folder / "a" / "run_training.json", tmp_path / "b", dataset_dir=str(tmp_path / "data"))
    assert not list((tmp_path / "b").glob("*.pt"))


def test_weights_are_used_as_they_were_trained(trained, tmp_path):
    """Trained with slices of 32x32 pixels and never told so again: the same labels as when told."""
    folder, data = trained
    scan, weights = data / "RawData/Training/img/img0001.nii.gz", folder / "a" / "model.pt"
    assert trained_with(weights) == {"image_size": [32, 32], "intensity_window": [-125, 275]}
    labels = {}
    for name, knobs in (("told", {"image_size": [32, 32]}), ("untold", {}), ("other", {"image_size": [48, 48]})):
        override = {"dataset_dir": str(scan), "output_dir": str(tmp_path / name), "ckpt_dir": str(folder / "a")}
        run("dcaunet_synapse", "inference", num_workers=0, **override, **knobs)
        labels[name] = np.asarray(nibabel.load(tmp_path / name / "img0001_seg.nii.gz").dataobj)
    segment("dcaunet_synapse", scan, tmp_path / "segment", [weights], num_workers=0)
    labels["segment"] = np.asarray(nibabel.load(tmp_path / "segment" / "img0001_seg.nii.gz").dataobj)
    np.testing.assert_array_equal(labels["untold"], labels["told"])
    np.testing.assert_array_equal(labels["segment"], labels["told"])
    assert (labels["other"] != labels["told"]).any()
    override = {"dataset_dir": str(data), "output_dir": str(tmp_path / "eval"), "ckpt_dir": str(folder / "a")}
    evaluated = run("dcaunet_synapse", "train", "evaluate", num_workers=0, **override)
    assert tuple(evaluated.parser.get_parsed_content("validate#inferer").image_size) == (32, 32)


def test_test_cases_that_trained_the_model_are_found_whatever_their_names(trained, tmp_path):
    folder, data = trained
    override = {**SMALL, "output_dir": str(tmp_path / "out"), "ckpt_dir": str(folder / "a")}
    run("dcaunet_synapse", "train", "evaluate", dataset_dir=str(data), **override)
    assert json.loads((tmp_path / "out" / "run_evaluation.json").read_text())["kind"] == "evaluation"
    shutil.copytree(data, tmp_path / "data")
    for kind in ("img", "label"):  # test case 0001 is now training case 0005
        path = tmp_path / "data/RawData/Training" / kind
        shutil.copy(path / f"{kind}0005.nii.gz", path / f"{kind}0001.nii.gz")
    override |= {"dataset_dir": str(tmp_path / "data")}
    with pytest.raises(RuntimeError) as refused:
        run("dcaunet_synapse", "train", "evaluate", **override)
    causes, error = [], refused.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert (
        "1 of 2 test cases are cases that this model was trained or chosen on: 0001 (training case 0005)" in causes[-1]
    )
    run("dcaunet_synapse", "train", "evaluate", **override, allow_overlap=True)


def test_what_is_no_record_is_refused(tmp_path):
    for content in ("[]", "{}", '{"config": {}, "kind": "x"}', '{"config": 1}', "{"):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(ValueError, match=r"^monai_ext: .*run\.json"):
            reproduce(tmp_path / "run.json")
