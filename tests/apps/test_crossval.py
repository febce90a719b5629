# SPDX-License-Identifier: Apache-2.0
"""Folds, the model that has not seen a case, what is decided on labels, and what a stop, a fault or a change costs."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from monai_ext.apps.crossval import conducting, crossval, decide
from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle, fold_ensemble, largest_component, own_weights
from monai_ext.data import write_phantom
from monai_ext.data.files.fingerprint import hash_file
from monai_ext.utils import locked
from tests.apps.test_new import write_scans
from tests.bundles.runs import ROOT
from tests.data.volumes import save

KNOBS = {"epochs": 1, "val_interval": 1, "batch_size": 4, "image_size": [32, 32], "num_workers": 0}
WORDS = [word for knob, value in KNOBS.items() for word in (f"--{knob}", str(value))]


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def row(*values: int) -> torch.Tensor:
    return torch.tensor([[values]], dtype=torch.uint8)


def test_the_largest_component_is_kept_where_it_helps_on_the_mean():
    truth = row(1, 1, 0, 0, 0, 2, 0, 2)
    stray = {"pred": row(1, 1, 0, 1, 0, 2, 0, 2), "label": truth}
    # class 1: 2*2/(3+2), and without the stray voxel 1; class 2 is in two parts, of which one would be lost: 2*1/(1+2)
    found = decide([stray], 4)
    assert found.labels == (1,)
    np.testing.assert_allclose(found.before, [0.8, 1, np.nan])
    np.testing.assert_allclose(found.after, [1, 2 / 3, np.nan])
    # in the second case the larger part is the wrong one: 2*2/(5+2) becomes 0, and the mean falls from 0.69 to 0.5
    wrong = {"pred": row(1, 1, 0, 1, 1, 1, 0, 0), "label": row(1, 1, 0, 0, 0, 0, 0, 0)}
    found = decide([stray, wrong], 4)
    assert found.labels == ()
    np.testing.assert_allclose(found.before, [(0.8 + 4 / 7) / 2, 1, np.nan])
    np.testing.assert_allclose(found.after, [0.5, 2 / 3, np.nan])
    # where nothing changes nothing is decided
    assert decide([{"pred": truth.clamp(max=1), "label": truth.clamp(max=1)}], 2).labels == ()


def test_regions_are_scored_as_regions_and_what_nobody_looked_at_is_left_out():
    """The whole (1 and 2) is written as 1, its core (2) as 2; 255 is no part of any score."""
    truth = row(1, 2, 1, 0, 255, 0, 0, 0)
    case = {"pred": row(1, 2, 1, 0, 2, 0, 0, 1), "label": truth}
    # whole: 2*3/(4+3), with its largest part alone (a part of value 1 is one voxel: the first) 2*2/(2+3);
    # core: 1, for the voxel at 255 counts nowhere; cleaned, the first of two equal parts stays or goes
    found = decide([case], 3, regions=[[1, 2], [2]], written=[1, 2])
    np.testing.assert_allclose(found.before, [6 / 7, 1])
    assert found.labels == ()
    # a stray core is lost by both: the whole rises with it
    case = {"pred": row(1, 2, 2, 0, 0, 2, 0, 0), "label": row(1, 2, 2, 0, 0, 0, 0, 0)}
    found = decide([case], 3, regions=[[1, 2], [2]], written=[1, 2])
    np.testing.assert_allclose(found.before, [6 / 7, 4 / 5])
    assert found.labels == (2,)
    np.testing.assert_allclose(found.after, [6 / 7, 1])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A bundle of one's own after two folds: its folder."""
    folder = tmp_path_factory.mktemp("crossval")
    write_scans(folder)
    made, _ = new_bundle("mine", None, folder / "scans", folder / "organs", where=folder, progress=False)
    left = crossval(made, folds=2, **KNOBS)
    assert left.models == made / "models"
    return made


def noted(bundle: Path) -> dict:
    return json.loads((bundle / "models" / "crossval.json").read_text())


def test_each_case_is_predicted_by_the_model_that_has_not_seen_it(done, tmp_path):
    scans = done.parents[1] / "scans"
    tested = noted(done)["cases"]
    assert sorted(case for cases in tested.values() for case in cases) == [f"{k:02d}" for k in range(6)]
    others = {"fold0.pt": "fold1.pt", "fold1.pt": "fold0.pt"}
    differ = 0
    for name, cases in tested.items():
        seen = json.loads((done / "models" / f"{name[:-3]}.cases.json").read_text())["cases"]
        for case in cases:
            image = scans / f"img{case}.nii.gz"
            assert hash_file(image) not in {entry["image"] for entry in seen}
            made = voxels(done / "eval/crossval" / name[:-3] / "labels" / f"{case}_seg.nii.gz")
            own, other = (
                segment(done, image, tmp_path / which, [done / "models" / which], num_workers=0)
                for which in (name, others[name])
            )
            np.testing.assert_array_equal(made, voxels(own[0]))
            differ += int((made != voxels(other[0])).sum())
    assert differ


def test_one_report_has_every_case_once_with_its_score(done):
    root = done.parents[1]
    lines = (done / "eval/crossval/metrics.csv").read_text()
    summary = json.loads((done / "eval/crossval/summary.json").read_text())
    assert summary["number_of_cases"] == 6
    expected = []
    for name, cases in noted(done)["cases"].items():
        for case in cases:
            assert case in lines
            truth = voxels(root / "organs" / f"label{case}.nii.gz")
            made = voxels(done / "eval/crossval" / name[:-3] / "labels" / f"{case}_seg.nii.gz")
            expected.append(
                [
                    2 * ((made == k) & (truth == value)).sum() / ((made == k).sum() + (truth == value).sum())
                    for k, value in ((1, 2), (2, 7))
                ]
            )
    means = np.mean(expected, axis=0)
    np.testing.assert_allclose([c["dice"] for c in noted(done)["classes"]], means, atol=1e-6)
    if not noted(done)["largest_component"]:
        found = [c["dice"]["mean"] for c in summary["conventions"]["monai"]["classes"].values()]
        np.testing.assert_allclose(found, means, atol=1e-6)


def test_a_second_start_does_nothing_and_a_change_is_told_in_one_line(done, capsys):
    last = done / "eval/crossval/fold0/last.pt"
    before = last.stat().st_mtime_ns, (done / "models/crossval.json").read_bytes()
    assert crossval(done, folds=2, **{**KNOBS, "num_workers": 1}).models == done / "models"
    assert "all 2 folds are done" in capsys.readouterr().out
    assert (last.stat().st_mtime_ns, (done / "models/crossval.json").read_bytes()) == before
    with pytest.raises(ValueError, match=r"^monai_ext: fold 0: .*epochs was 1, is 2 now.* --overwrite true"):
        crossval(done, folds=2, **{**KNOBS, "epochs": 2})
    image = done.parents[1] / "scans" / "img02.nii.gz"
    content = image.read_bytes()
    try:
        save(image, voxels(image) + 1, nibabel.load(image).affine)
        with pytest.raises(ValueError, match=r"^monai_ext: fold 0: .*the image of case 02 changed"):
            crossval(done, folds=2, **KNOBS)
    finally:
        image.write_bytes(content)
    with pytest.raises(ValueError, match=r"^monai_ext: 6 patients or images for 7 folds.*--folds"):
        crossval(done, folds=7, **KNOBS)
    for reserved in ("fold", "resume", "ckpt_dir"):
        with pytest.raises(ValueError, match=rf"^monai_ext: --{reserved}: is crossval's own"):
            crossval(done, **{reserved: 1})
    with pytest.raises(ValueError, match=r"^monai_ext: bundle mine has no knob 'epoch'. Did you mean 'epochs'"):
        crossval(done, epoch=1)
    assert (last.stat().st_mtime_ns, (done / "models/crossval.json").read_bytes()) == before


def test_two_at_once(done):
    with locked(done / "eval/crossval", conducting.LOCK), pytest.raises(BlockingIOError, match="in use by process"):
        crossval(done, folds=2, **KNOBS)


def test_segment_uses_the_ensemble_unless_told_otherwise(done, tmp_path):
    image = done.parents[1] / "scans" / "img01.nii.gz"
    folds = [done / "models" / f"fold{k}.pt" for k in (0, 1)]
    assert Bundle(done).checkpoints() == folds
    kept = noted(done)["largest_component"]
    assert largest_component(folds) == kept
    assert largest_component(folds[:1]) == []
    own = segment(done, image, tmp_path / "own", num_workers=0)
    named = segment(done, image, tmp_path / "named", folds, num_workers=0)
    np.testing.assert_array_equal(voxels(own[0]), voxels(named[0]))
    with pytest.raises(FileNotFoundError, match=r"^monai_ext: bundle mine: no weights at .*model\.pt"):
        segment(done, image, tmp_path / "one", ensemble=False)
    shutil.copy(folds[1], done / "models" / "model.pt")
    try:
        alone = segment(done, image, tmp_path / "alone", ensemble=False, num_workers=0)
        fold = segment(done, image, tmp_path / "fold", folds[1:], num_workers=0)
        np.testing.assert_array_equal(voxels(alone[0]), voxels(fold[0]))
    finally:
        (done / "models" / "model.pt").unlink()


def test_a_result_that_is_none(tmp_path):
    assert own_weights(tmp_path) == f"{tmp_path}/model.pt"
    good = {"checkpoints": ["fold0.pt", "fold1.pt"], "largest_component": [2]}
    for name in good["checkpoints"]:
        (tmp_path / name).write_bytes(b"")
    file = tmp_path / "crossval.json"
    odds = ({"checkpoints": ["../fold0.pt"]}, {"checkpoints": []}, {"largest_component": ["$1"]}, {"model": 1})
    for odd in ({}, [], *({**good, **odd} for odd in odds)):
        file.write_text(json.dumps(odd))
        with pytest.raises(ValueError, match=r"^monai_ext: .*crossval\.json: expected the checkpoints"):
            fold_ensemble(tmp_path)
    file.write_text(json.dumps(good))
    assert own_weights(tmp_path) == [f"{tmp_path}/fold0.pt", f"{tmp_path}/fold1.pt"]
    assert own_weights(tmp_path, "false") == f"{tmp_path}/model.pt"
    (tmp_path / "fold1.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"^monai_ext: .*fold1\.pt: not there.*--ensemble false"):
        own_weights(tmp_path)


def start(bundle: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "monai_ext", "crossval", "--bundle", str(bundle), "--folds", "2", *WORDS, *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def children(process: subprocess.Popen) -> list[int]:
    """All that a process has started, and these in turn."""
    found, new = [], [process.pid]
    while new:
        listed = [Path(f"/proc/{pid}/task/{pid}/children") for pid in new]
        new = [int(pid) for file in listed if file.exists() for pid in file.read_text().split()]
        found += new
    return found


def kill_in_training(process: subprocess.Popen, log: Path) -> None:
    """Kill all of it once a training has written a line, so that what trains is there to be killed."""
    try:
        deadline = time.monotonic() + 400
        while not (log.is_file() and log.stat().st_size):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        for pid in [*children(process), process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_a_kill_costs_what_was_not_finished(tmp_path):
    write_scans(tmp_path)
    made, _ = new_bundle("mine", None, tmp_path / "scans", tmp_path / "organs", where=tmp_path, progress=False)
    work = made / "eval/crossval"
    first = start(made)
    kill_in_training(first, work / "fold1/training.log")
    assert not (made / "models/crossval.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in work.glob("fold0/**/*") if path.suffix in (".pt", ".gz")}
    assert len(kept) >= 5  # checkpoints, and a label of each case
    second = start(made)
    told = second.communicate(timeout=500)[0]
    assert second.returncode == 0, told
    assert "fold 0: is trained" in told
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(noted(made)["checkpoints"]) == 2
    assert len(list((made / "models").glob("fold*.quality.npz"))) == 2  # each fold knows how far its labels go


@pytest.mark.slow
def test_a_fold_that_fails_leaves_the_others(tmp_path):
    """The label of one case has a value too many: the fold that trains on it fails, the other does not."""
    write_scans(tmp_path)
    made, _ = new_bundle("mine", None, tmp_path / "scans", tmp_path / "organs", where=tmp_path, progress=False)
    bad = tmp_path / "organs/label00.nii.gz"
    good = bad.read_bytes()
    save(bad, np.where(voxels(bad) == 2, 11, voxels(bad)).astype(np.uint8))
    with pytest.raises(ValueError, match=r"^monai_ext: 1 of 2 folds failed: fold \d: .*label00.*11") as failed:
        crossval(made, folds=2, jobs=2, **KNOBS)
    assert "\n" not in str(failed.value)
    done = [k for k in (0, 1) if (made / f"eval/crossval/fold{k}/model.pt").is_file()]
    assert len(done) == 1
    assert not (made / "models").exists() or not list((made / "models").iterdir())
    bad.write_bytes(good)
    # the fold that was trained without the bad label has it in its notes all the same
    with pytest.raises(ValueError, match="the label of case 00 changed"):
        crossval(made, folds=2, **KNOBS)
    left = crossval(made, folds=2, overwrite=True, **KNOBS)
    assert len(fold_ensemble(left.models).checkpoints) == 2


@pytest.mark.slow
def test_pictures(tmp_path):
    write_phantom("kvasir", tmp_path / "data", 8)
    shutil.copytree(ROOT / "bundles/doubleunet_dca_kvasir/configs", tmp_path / "mine/configs")
    left = crossval(tmp_path / "mine", folds=2, dataset_dir=str(tmp_path / "data"), **KNOBS)
    assert json.loads((left.report / "summary.json").read_text())["number_of_cases"] == 8
    assert "no clinical meaning" in (left.report / "report.html").read_text()
    assert len(list(left.report.glob("fold*/labels/*_seg.png"))) == 8
    assert all(math.isfinite(c["dice"]) for c in noted(tmp_path / "mine")["classes"])


def test_what_a_cluster_is_told(done, tmp_path, monkeypatch):
    """Slurm itself is not here: its commands are stood in for, and what they are given is looked at."""
    with pytest.raises(ValueError, match=r"^monai_ext: --slurm partition=gpu: .*srun"):
        crossval(done, folds=2, slurm="partition=gpu", **KNOBS)
    for name in ("srun", "sbatch", "squeue", "sacct", "scancel"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ValueError, match=r"^monai_ext: --slurm 'partition': expected name=value"):
        crossval(done, folds=2, slurm="partition", **KNOBS)
    with pytest.raises(ValueError, match=r"^monai_ext: --slurm queue=gpu: .*queue"):
        crossval(done, folds=2, slurm="queue=gpu", **KNOBS)
    executor = conducting.executor_for(Bundle(done), tmp_path, "partition=gpu,gpus_per_node=1,time=600")
    text = executor._make_submission_file_text("the command", "1")
    for line in ("--partition=gpu", "--gpus-per-node=1", "--time=600", "--job-name=crossval-mine"):
        assert f"#SBATCH {line}" in text
