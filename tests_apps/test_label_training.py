# SPDX-License-Identifier: Apache-2.0
"""Annotation rounds on MONAI Label's own server: segment, correct, submit, train, segment again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
import requests
import torch
from filelock import FileLock
from PIL import Image

from monai_ext.apps.label.training_state import LOCK
from monai_ext.phantoms import breast_nodule_case
from tests_apps.bundles import run_bundle, write_bundle
from tests_apps.server import Server
from tests_apps.studies import ct, save

BUNDLE = "dcaunet_synapse"
CASES = (5, 6, 7)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle"), BUNDLE, size=32)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("round") / "studies"
    for case in CASES:
        image, _, affine = ct(case, size=32, slices=6)
        save(folder / f"ct{case}.nii.gz", image, affine)
    return folder


def voxels(answer: requests.Response, file: Path) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    file.write_bytes(answer.content)
    return np.asarray(nibabel.load(file).dataobj)


def test_annotation_round(bundle, studies, tmp_path):
    with Server(studies, [bundle]) as server:
        weights = server.weights(BUNDLE)
        first_weights = weights.read_bytes()
        before = voxels(server.infer(BUNDLE, "ct5"), tmp_path / "before.nii.gz")

        # the annotator corrects labels; 3D Slicer numbers the segments of its list, and the list was reordered
        for case in CASES:
            _, label, affine = ct(case, size=32, slices=6)
            segments = np.zeros_like(label)
            segments[label == 6] = 1
            segments[label == 1] = 2
            file = save(tmp_path / f"ct{case}.nii.gz", segments, affine)
            names = [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}]
            answer = server.save_label(f"ct{case}", file, label_info=names)
            assert answer.status_code == 200, answer.text
        saved = server.studies / "labels" / "final" / "ct5.nii.gz"
        assert saved.read_bytes() == (tmp_path / "ct5.nii.gz").read_bytes()
        stats = requests.get(f"{server.url}/datastore/", timeout=60).json()
        assert stats["completed"] == 3

        server.train(BUNDLE, max_epochs=1, learning_rate=0.01)
        task = server.wait_for_training()
        assert task["status"] == "DONE", task["details"]
        assert weights.read_bytes() != first_weights
        assert weights.with_name("previous.pt").read_bytes() == first_weights
        assert not (weights.parents[1] / "training").exists()
        assert (bundle / "models" / "model.pt").read_bytes() == first_weights  # the bundle's own are never touched

        # the next answer is that of the new weights, and the former can still be asked for
        after = voxels(server.infer(BUNDLE, "ct5"), tmp_path / "after.nii.gz")
        trained = write_bundle(tmp_path / "trained", BUNDLE, size=32)
        (trained / "models" / "model.pt").write_bytes(weights.read_bytes())
        expected = run_bundle(trained, studies / "ct5.nii.gz", tmp_path / "expected")
        np.testing.assert_array_equal(after, np.asarray(nibabel.load(expected).dataobj))
        assert (after != before).any()
        info = requests.get(f"{server.url}/info/", timeout=60).json()
        assert info["models"][BUNDLE]["config"]["model_filename"] == ["model.pt", "previous.pt"]
        former = server.infer(BUNDLE, "ct5", model_filename="previous.pt")
        np.testing.assert_array_equal(voxels(former, tmp_path / "former.nii.gz"), before)


def start_long_training(server: Server) -> None:
    """Return when weights were written, as after every epoch."""
    written = server.weights(BUNDLE).parents[1] / "training" / "model.pt"
    written.unlink(missing_ok=True)
    server.train(BUNDLE, max_epochs=100_000, val_split=0)
    end = time.monotonic() + 120
    while not written.is_file():
        assert time.monotonic() < end, server.log.read_text()[-3000:]
        time.sleep(0.05)


def test_training_stopped_and_server_killed_during_training(bundle, studies, tmp_path):
    with Server(studies, [bundle]) as server:
        label = save(tmp_path / "ct5.nii.gz", ct(5, size=32, slices=6)[1] % 9, ct(5, size=32, slices=6)[2])
        assert server.save_label("ct5", label).status_code == 200
        weights = server.weights(BUNDLE)
        kept = weights.read_bytes()
        before = voxels(server.infer(BUNDLE, "ct5"), tmp_path / "before.nii.gz")
        start_long_training(server)
        assert requests.delete(f"{server.url}/train/", timeout=60).json()["status"] == "STOPPED"
        assert weights.read_bytes() == kept
        start_long_training(server)
        server.kill()
        assert weights.read_bytes() == kept
    with Server(studies, [bundle]) as server:
        np.testing.assert_array_equal(voxels(server.infer(BUNDLE, "ct5"), tmp_path / "after.nii.gz"), before)


def trainer(bundle: Path, folder: Path):
    """The server's trainer by itself, and a datastore of the studies and labels in ``folder``."""
    from monai_ext.apps.label.compat import prepare_imports
    from monai_ext.apps.label.folder import prepare_app

    prepare_imports()
    from monailabel.datastore.local import LocalDatastore

    from monai_ext.apps.label.train import BundleTraining
    from monai_ext.bundle import Bundle

    prepare_app(folder.parent / "app", {bundle.name: Bundle(bundle)})
    task = BundleTraining(str(folder.parent / "app" / "model" / bundle.name), {})
    return task, LocalDatastore(str(folder), extensions=["*.nii.gz", "*.png"])


@pytest.fixture
def training(bundle, tmp_path):
    """With one labelled study."""
    image, label, affine = ct(5, size=32, slices=6)
    save(tmp_path / "studies" / "ct5.nii.gz", image, affine)
    save(tmp_path / "studies" / "labels" / "final" / "ct5.nii.gz", label % 9, affine)
    return trainer(bundle, tmp_path / "studies")


def test_pictures_with_a_process_for_each_gpu(tmp_path, monkeypatch):
    """Here the processes share the CPU."""
    bundle = write_bundle(tmp_path / "bundles", "qtseg_busi", size=32)
    labels = tmp_path / "studies" / "labels" / "final"
    labels.mkdir(parents=True)
    for seed in range(10):  # two of them for validation
        case = breast_nodule_case(seed, size=(48, 64))
        Image.fromarray(case.image).save(tmp_path / "studies" / f"us{seed}.png")
        Image.fromarray((case.objects > 0).astype(np.uint8)).save(labels / f"us{seed}.png")
    task, datastore = trainer(bundle, tmp_path / "studies")
    monkeypatch.setattr(task, "processes", lambda request: 2)
    answer = task({"max_epochs": 1, "batch_size": 4, "model": bundle.name}, datastore)
    assert answer == {"studies": 10, "epochs": 1, "weights": "model.pt"}
    first = torch.load(bundle / "models" / "model.pt", weights_only=True)
    trained = torch.load(Path(task.bundle_path, "models", "model.pt"), weights_only=True)
    assert first.keys() == trained.keys()
    changes = [float((trained[key] - value).abs().max()) for key, value in first.items() if value.is_floating_point()]
    assert 0 < max(changes) < 0.5  # it went on from the served weights, and did not start anew


def test_training_that_diverges_changes_nothing(training):
    task, datastore = training
    weights = Path(task.bundle_path, "models", "model.pt")
    kept = weights.read_bytes()
    with pytest.raises(ValueError, match="the model is as before"):
        task({"max_epochs": 2, "learning_rate": 1e38, "model": BUNDLE}, datastore)
    assert weights.read_bytes() == kept
    assert not weights.with_name("previous.pt").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda weights: weights.popitem(), "its weights do not fit DCAUNet .1 keys.*missing: "),
        (lambda weights: next(iter(weights.values())).flatten()[:1].fill_(torch.inf), "1 of .* values are NaN or inf"),
        (lambda weights: [value.zero_() for value in weights.values()], "all zero, as every weight is"),
        (lambda weights: weights.update({next(iter(weights)): next(iter(weights.values())).half()}), None),
    ],
)
def test_only_weights_that_the_network_can_use_are_published(training, tmp_path, monkeypatch, change, fault):
    task, datastore = training
    model = Path(task.bundle_path, "models", "model.pt")
    kept = model.read_bytes()
    weights = torch.load(model, weights_only=True)
    change(weights)
    monkeypatch.setattr(task, "_run", lambda work, processes: torch.save(weights, work / "model.pt"))
    if fault is None:
        task({"max_epochs": 1, "model": BUNDLE}, datastore)
        assert model.with_name("previous.pt").read_bytes() == kept
        served = torch.load(model, weights_only=True)
        assert all(torch.equal(served[key], value) for key, value in weights.items())
        return
    with pytest.raises(ValueError, match=rf"(?s)the model is as before: /.*{fault}"):
        task({"max_epochs": 1, "model": BUNDLE}, datastore)
    assert model.read_bytes() == kept
    assert not model.with_name("previous.pt").exists()


def test_training_that_fails_says_why(training):
    task, datastore = training
    weights = Path(task.bundle_path, "models", "model.pt")
    torch.save({"no": torch.zeros(1)}, weights)
    kept = weights.read_bytes()
    with pytest.raises(ValueError, match="the model is as before.*its weights do not fit DCAUNet"):
        task({"max_epochs": 1, "model": BUNDLE}, datastore)
    assert weights.read_bytes() == kept


def test_segment_of_another_name_is_refused(training):
    task, datastore = training
    datastore.update_label_info("ct5", "final", {"label_info": [{"name": "heart"}]})
    with pytest.raises(ValueError, match=r"ct5.nii.gz: segment 'heart' is none of this model's classes \(aorta, "):
        task({"max_epochs": 1, "model": BUNDLE}, datastore)


def processes_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_training_ends_with_its_server(bundle, studies, tmp_path, number):
    """Only the server gets the signal, as ``kill PID`` does; what it started has to notice by itself."""
    with Server(studies, [bundle]) as server:
        label = save(tmp_path / "ct5.nii.gz", ct(5, size=32, slices=6)[1] % 9, ct(5, size=32, slices=6)[2])
        assert server.save_label("ct5", label).status_code == 200
        weights = server.weights(BUNDLE)
        kept = weights.read_bytes()
        there = {path.name: path.stat().st_mtime_ns for path in weights.parent.iterdir()}
        start_long_training(server)
        stats, end = {"epoch": 0}, time.monotonic() + 60
        while stats["epoch"] < 1 and time.monotonic() < end:
            stats = requests.get(f"{server.url}/info/", timeout=60).json()["train_stats"][BUNDLE]
            assert stats["total_epochs"] == 100_000  # of this training, not of the one before
        assert stats["epoch"] >= 1
        working = processes_of(server)
        assert len(working) >= 2
        server.process.send_signal(number)
        server.process.wait(timeout=60)
        _, alive = psutil.wait_procs(working, timeout=30)
        assert not alive
        assert weights.read_bytes() == kept
        assert {path.name: path.stat().st_mtime_ns for path in weights.parent.iterdir()} == there
    with Server(studies, [bundle]) as server:
        assert not (weights.parents[1] / "training").exists()
        assert weights.read_bytes() == kept
        assert server.infer(BUNDLE, "ct5").status_code == 200


def test_two_trainings_of_one_bundle(training):
    task, datastore = training
    with FileLock(Path(task.bundle_path, LOCK)), pytest.raises(ValueError, match="is being trained already"):
        task({"max_epochs": 1, "model": BUNDLE}, datastore)
