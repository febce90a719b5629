# SPDX-License-Identifier: Apache-2.0
"""Networks by one recipe: who may take part, what each is given, what a stop and a change cost, and the table."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import submitit
import torch

from monai_ext.apps.compare import compare, contest, known_networks
from monai_ext.apps.compare.budget import EPOCH_LENGTH, Budget, length_of
from monai_ext.apps.compare.candidates import Candidate, find_candidates
from monai_ext.apps.compare.results import table_of, write_results
from monai_ext.apps.crossval.training_job import TrainingJob
from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.report.comparison import Run, mean_of_runs
from monai_ext.bundle import Bundle
from monai_ext.networks import nets
from tests.apps.test_comparison import evaluate
from tests.apps.test_crossval import kill_in_training
from tests.apps.test_new import write_scans
from tests.bundles.runs import ROOT

KNOBS = {"num_folds": 2, "val_interval": 1, "batch_size": 4, "image_size": [32, 32], "num_workers": 0}
OWN = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
}


def candidates(bundle: str, networks: str, network_def=None, **knobs):
    found = Bundle.find(bundle)
    return find_candidates(found.parser("train", **knobs), networks, network_def)


def test_every_network_of_the_library_has_a_name():
    classes = {network for network in known_networks().values() if isinstance(network, type)}
    assert classes == {getattr(nets, name) for name in nets.__all__} - {
        nets.DCAUNetEncoder,
        nets.FPNEncoder,
        nets.PVTv2,
    }


def test_only_the_network_differs():
    own, known, deep, several = (
        candidates("dcaunet_synapse", "dcaunet, UNetDCA,plain-unet", None, image_size=[64, 64])
        + candidates("dcaunet_synapse", "xattnres_emcad,dcaunet", None, image_size=[64, 64])[:1]
    )
    assert (own.name, own.overlay, own.parameters) == ("dcaunet", {}, 21_564_271)
    facts = {"spatial_dims": 2, "in_channels": 1, "out_channels": 9, "img_size": [64, 64]}
    assert known.overlay == {"network_def": {"_target_": "monai_ext.networks.nets.UNetDCA", **facts}}
    assert (known.name, known.parameters) == ("unet_dca", 8_747_593)
    loss = Bundle.find("dcaunet_synapse").config("train")["loss"]
    # the finest map counts most where maps shrink; alike where all are whole
    assert deep.overlay["loss"] == {"_target_": "DeepSupervisionLoss", "loss": loss, "weight_mode": "exp"}
    assert several.overlay["loss"] == {"_target_": "DeepSupervisionLoss", "loss": loss, "weight_mode": "same"}
    # a loss that takes whole maps stays as it is
    mutation = candidates("xattnres_emcad_synapse", "emcadnet,plain_unet", None, image_size=[64, 64])
    assert ["loss" in candidate.overlay for candidate in mutation] == [False, True]


def test_multiply_adds_are_those_of_the_products():
    definition = {"_target_": "monai.networks.nets.BasicUNet", "features": [4] * 6}
    definition |= {key: OWN[key] for key in ("spatial_dims", "in_channels")} | {"out_channels": 9}
    found = candidates("dcaunet_synapse", "dcaunet", definition, image_size=[64, 64])[1]
    assert found.name == "BasicUNet"
    pixels = [(64 >> level) ** 2 for level in range(5)]
    down = pixels[0] * 9 * (1 * 4 + 4 * 4) + sum(n * 9 * (4 * 4 + 4 * 4) for n in pixels[1:])
    # transposed to the next level at half the channels, the last at all, joined with its skip, two convolutions
    wide = [4, 2, 2, 2]
    up = sum(pixels[k + 1] * 4 * 4 * n + pixels[k] * 9 * ((4 + n) * 4 + 4 * 4) for k, n in enumerate(wide))
    assert found.multiply_adds == down + up + pixels[0] * 4 * 9


@pytest.mark.parametrize(
    ("networks", "network_def", "told"),
    [
        ("dcaunet", None, r"--networks: two networks or more are compared, dcaunet given\."),
        ("dcaunet,nonet", None, r"--networks nonet: expected one of dcaunet, .*resenc_unet; or give"),
        ("dcaunet,DCAUNet", None, r"--networks, --network_def: dcaunet is given twice"),
        ("dcaunet", "{", r"--network_def \{: is no JSON"),
        ("dcaunet", '{"spatial_dims": 2}', r"--network_def .*: expected a definition as train\.json has it"),
        ("dcaunet", OWN, r"network UNet: in eval\(\) it gives \[1, 3, 64, 64\].*expected \[1, 9, 64, 64\]\."),
        ("dcaunet", {"_target_": "torch.nn.Identity"}, r"network Identity: .*asks for its spatial_dims"),
        ("dcaunet", {**OWN, "channels": [4]}, r"network UNet: .*channels"),
    ],
)
def test_who_cannot_take_part_is_told_in_one_line(networks, network_def, told):
    with pytest.raises(ValueError, match=rf"^monai_ext: {told}") as failed:
        candidates("dcaunet_synapse", networks, network_def, image_size=[64, 64])
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, r"the budget is one of --steps, --cpu_seconds and --seconds; none given"),
        ({"steps": 3, "seconds": 3}, r"the budget is one of .*; --steps and --seconds given"),
        ({"steps": 0}, r"--steps must be 1 or more"),
        ({"seconds": -1}, r"--seconds must be above 0"),
        ({"steps": 3, "epochs": 3}, r"--epochs: give the budget"),
        ({"steps": 3, "train#trainer#epoch_length": 3}, r"--train#trainer#epoch_length: give the budget"),
        ({"steps": 3, "seed": 3}, r"--seed: give --folds and --seeds"),
        ({"steps": 3, "pretrained": "x.pt"}, r"--pretrained: all networks begin without weights"),
        ({"steps": 3, "seeds": "1,1"}, r"--seeds '1,1': expected one or more different"),
    ],
)
def test_what_cannot_be_asked_for_is_told_before_anything_is_written(options, told, tmp_path):
    with pytest.raises(ValueError, match=rf"^monai_ext: {told}"):
        compare("dcaunet_synapse", "dcaunet,basic_unet", output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (94, {"epochs": 1}),
        (188, {"epochs": 2}),
        (24, {"epochs": 1, EPOCH_LENGTH: 24}),  # a heavy network has less than one epoch
        (130, {"epochs": 1, EPOCH_LENGTH: 130}),
        (240, {"epochs": 3, EPOCH_LENGTH: 80}),
        (1, {"epochs": 1, EPOCH_LENGTH: 1}),
    ],
)
def test_a_budget_is_kept_whatever_an_epoch_has(steps, expected, monkeypatch, tmp_path):
    monkeypatch.setattr("monai_ext.apps.compare.budget._epoch_length", lambda *_: 94)
    assert length_of(None, None, Budget("steps", steps), tmp_path) == expected


def test_seeds_count_with_their_mean():
    def run(name: str, dice: list[float], hd95: list[float]) -> Run:
        summary = {"class_names": ["a", "b"], "conventions": {"monai": {"hd95_unit": "mm"}}}
        scores = {"dice": np.array([dice]), "hd95": np.array([hd95])}
        return Run(name, summary, "monai", ("x",), ("x",), ("",), scores)

    nan, inf = float("nan"), float("inf")
    found = mean_of_runs("both", [run("r/1", [0.5, nan], [3, nan]), run("r/2", [0.7, 0.0], [inf, inf])])
    np.testing.assert_allclose(found.scores["dice"], [[0.6, 0.5]])  # rightly not predicted is 1, wrongly predicted is 0
    assert np.isinf(found.scores["hd95"]).all()
    assert (found.name, found.trainings) == ("both", 2)


def test_of_one_patient_the_best_stands_first_and_nothing_is_tested(tmp_path):
    candidates = [Candidate(name, {}, 1, 1) for name in ("worse", "best")]
    for candidate, shift in zip(candidates, (3, 0)):
        evaluate(tmp_path / candidate.name / "seed0", [shift])
    jobs = {c.name: [TrainingJob(c.name, tmp_path / c.name, tmp_path, {}, 1, [])] for c in candidates}
    rows, unit, said = write_results(tmp_path, candidates, [0], jobs, Budget("steps", 1))
    assert [(row["network"], row["better_than"]) for row in rows] == [("best", None), ("worse", None)]
    assert rows[0]["dice"] == {"mean": 1.0, "interval": None} and rows[1]["dice"]["mean"] < 0.9
    head, cells = table_of(rows, unit)
    assert [line[head.index("better than")] for line in cells] == ["no test: one patient"] * 2
    assert said[0] == "Dice: 1 case of fewer than two patients: there is no test, and no interval."


@pytest.mark.slow
def test_three_networks_on_two_folds_killed_once_and_resumed(tmp_path, monkeypatch, capsys):
    write_scans(tmp_path)
    made, _ = new_bundle("mine", None, tmp_path / "scans", tmp_path / "organs", where=tmp_path, progress=False)
    out = tmp_path / "out"
    words = [word for knob, value in KNOBS.items() for word in (f"--{knob}", str(value))]
    command = [
        sys.executable,
        "-m",
        "monai_ext",
        "compare",
        "--bundle",
        str(made),
        "--networks",
        "basic_unet,plain_unet",
    ]
    command += ["--network_def", json.dumps(OWN), "--folds", "0,1", "--steps", "4", "--output", str(out), *words]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    kill_in_training(first, out / "plain_unet/fold0_seed0/training.log")
    assert not (out / "comparison.json").exists()
    done = out / "basic_unet/fold0_seed0"
    kept = {path: path.stat().st_mtime_ns for path in done.glob("**/*") if path.suffix in (".pt", ".gz")}
    assert len(kept) == 5  # the best and the last weights, and three labels

    # what is left is done in this process, which saves its start
    here = lambda found, work, *_: submitit.DebugExecutor(work / "jobs")  # noqa: E731
    monkeypatch.setattr(contest.job_queue, "executor_for", here)
    asked = {"networks": "basic_unet,plain_unet", "network_def": OWN, "folds": "0,1", "steps": 4, "output": out}
    left = compare(made, **asked, **KNOBS)
    assert "1 of 6 trainings are done" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    assert sorted(row["network"] for row in left.rows) == ["UNet", "basic_unet", "plain_unet"]
    content = json.loads((out / "comparison.json").read_text())
    for row in left.rows:
        name = row["network"]
        configs = [
            json.loads((out / name / f"fold{fold}_seed0/run_training.json").read_text())["config"] for fold in (0, 1)
        ]
        assert {config["seed"] for config in configs} == {0}
        assert [config["fold"] for config in configs] == [0, 1]
        # the data have 3 steps an epoch
        assert row["training_steps"] == torch.load(done / "last.pt", weights_only=True)["iteration"] == 4
        assert row["training_cpu_seconds"] > 0
        assert row["seconds_per_scan"] > 0
        dice = []
        for k in range(6):
            (file,) = out.glob(f"{name}/fold*_seed0/labels/{k:02d}_seg.nii.gz")
            label, truth = (
                np.asarray(nibabel.load(path).dataobj) for path in (file, tmp_path / f"organs/label{k:02d}.nii.gz")
            )
            dice.append(
                np.mean(
                    [
                        2 * ((label == c) & (truth == value)).sum() / ((label == c).sum() + (truth == value).sum())
                        for c, value in ((1, 2), (2, 7))
                    ]
                )
            )
        place = content["runs"].index(name)
        np.testing.assert_allclose(content["metrics"]["dice"]["values"][place], dice, atol=1e-6)
        np.testing.assert_allclose(row["dice"]["mean"], np.mean(dice), atol=1e-6)
    page = (out / "comparison.html").read_text()
    assert "basic_unet less" in page or "less basic_unet" in page
    assert page.count('<img class="plot"') == len(content["metrics"])  # intervals and the cases' differences of each

    before = {path: path.stat().st_mtime_ns for path in out.glob("**/*.pt")}
    assert compare(made, **asked, **KNOBS).rows == left.rows
    assert "6 of 6 trainings are done" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"^monai_ext: basic_unet, fold 0, seed 0: .*steps was 4, is 8 now.*overwrite"):
        compare(made, **{**asked, "steps": 8}, **KNOBS)
    with pytest.raises(ValueError, match=r"^monai_ext: basic_unet, fold 0, seed 0: .*batch_size was 4, is 2 now"):
        compare(made, **asked, **{**KNOBS, "batch_size": 2})
    changed = r"network_def#channels was \[4, 8\], is \[8, 8\] now"
    with pytest.raises(ValueError, match=rf"^monai_ext: UNet, fold 0, seed 0: .*{changed}"):
        compare(made, **{**asked, "network_def": {**OWN, "channels": [8, 8]}}, **KNOBS)
    with pytest.raises(ValueError, match=r"^monai_ext: --folds '0,2': expected different ones of 0, 1"):
        compare(made, **{**asked, "folds": "0,2"}, **KNOBS)
    assert {path: path.stat().st_mtime_ns for path in out.glob("**/*.pt")} == before
