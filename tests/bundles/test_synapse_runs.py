# SPDX-License-Identifier: Apache-2.0
"""Bundles on abdominal CT, from training to labels on the source's grid, at small sizes."""

from __future__ import annotations

import json
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigWorkflow

from monai_ext.data import DATASETS
from monai_ext.inferers import training_inferer
from monai_ext.networks.nets import DCAUNet
from tests.bundles.runs import ROOT, command, config, run
from tests.data.volumes import RAS, rotation, save, volume, write_preprocessed_synapse, write_raw_synapse
from tests.dicom import write_ct_series

BUNDLES = ["dcaunet_synapse"]
SMALL = {"image_size": [32, 32], "batch_size": 4, "num_workers": 0}
TINY = {**SMALL, "epochs": 1, "val_interval": 1}


@pytest.fixture(scope="module", params=BUNDLES)
def trained(request, tmp_path_factory):
    """A bundle after one epoch on eight noisy volumes: bundle name, data folder, output folder."""
    folder = tmp_path_factory.mktemp(request.param)
    data = write_raw_synapse(folder / "data", [5, 6, 7, 9, 10, 21, 1, 2])
    run(request.param, "train", **TINY, dataset_dir=str(data), output_dir=str(folder), ckpt_dir=str(folder))
    return request.param, data, folder


def test_training_leaves_both_checkpoints(trained):
    _, _, folder = trained
    weights = torch.load(folder / "model.pt", weights_only=True)
    last = torch.load(folder / "last.pt", weights_only=True)
    assert last["epoch"] == 1
    assert weights.keys() == last["objects"]["network"].keys()
    assert list(folder.glob("events.out.tfevents*"))


def test_properties(trained, tmp_path):
    bundle, data, folder = trained
    folders = {"output_dir": str(tmp_path), "ckpt_dir": str(folder)}
    for workflow_type, names, dataset_dir in (
        ("training", ["train"], data),
        ("training", ["train", "evaluate"], data),
        ("inference", ["inference"], data / "RawData/Training/img"),
    ):
        workflow = ConfigWorkflow(
            config(bundle, *names), workflow_type=workflow_type, dataset_dir=str(dataset_dir), **SMALL, **folders
        )
        workflow.initialize()
        assert not workflow.check_properties()


def test_resume_goes_on(trained, tmp_path):
    bundle, data, folder = trained
    (tmp_path / "last.pt").write_bytes((folder / "last.pt").read_bytes())
    options = {**TINY, "epochs": 2, "dataset_dir": str(data), "output_dir": str(tmp_path), "ckpt_dir": str(tmp_path)}
    run(bundle, "train", **options, resume=True)
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert last["epoch"] == 2
    assert last["objects"]["lr_scheduler"]["last_epoch"] == 2


def test_a_training_in_bfloat16_resumes_exactly_and_validates_in_float32(trained, tmp_path, monkeypatch):
    bundle, data, _ = trained
    monkeypatch.setattr(training_inferer, "has_bfloat16", lambda: True)
    forward, seen = DCAUNet.forward, set()

    def watched(network, x):
        seen.add((network.training, torch.is_autocast_enabled("cpu")))
        return forward(network, x)

    monkeypatch.setattr(DCAUNet, "forward", watched)
    light = {"network_def#channels": [32, 32, 64, 64], "network_def#depths": [1, 1, 1, 1], "lr_scheduler#T_max": 2}
    options = {**SMALL, **light, "val_interval": 1, "dataset_dir": str(data), "precision": "bfloat16"}
    for name, parts in (("whole", [2]), ("parts", [1, 2])):
        paths = {"output_dir": str(tmp_path / name), "ckpt_dir": str(tmp_path / name)}
        for epochs in parts:
            run(bundle, "train", **options, **paths, epochs=epochs, resume=epochs > parts[0])
    assert seen == {(True, True), (False, False)}
    whole, parts = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["objects"]["network"] for name in ("whole", "parts")
    )
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert {value.dtype for value in whole.values()} == {torch.float32, torch.int64}  # batches that norms have seen


def test_evaluation_reports_the_metrics_of_its_own_predictions(trained, tmp_path):
    """Predict the test volumes as a user would, score the files, and find the same numbers in the report."""
    from monai_ext.metrics import label_metrics

    bundle, data, folder = trained
    options = {**SMALL, "dataset_dir": str(data), "output_dir": str(tmp_path), "ckpt_dir": str(folder)}
    run(bundle, "train", "evaluate", **options)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (tmp_path / "report.html").is_file()
    assert "phantom data" not in (tmp_path / "report.html").read_text()
    images = data / "RawData/Training/img"
    run(bundle, "inference", **{**options, "dataset_dir": str(images)})
    mapping = DATASETS["synapse"].find(data).label_mapping
    dice = []
    for case in ("0001", "0002"):
        pred = np.asarray(nibabel.load(tmp_path / f"img{case}_seg.nii.gz").dataobj)
        codes = np.asarray(nibabel.load(images.parent / f"label/label{case}.nii.gz").dataobj)
        label = np.vectorize(mapping.get)(codes)
        dice.append(label_metrics(pred, label, num_classes=9, spacing=(2, 2, 5))["dice"])
    assert summary_dice(summary) == pytest.approx(np.mean(dice), abs=1e-6)


def summary_dice(summary: dict) -> float:
    return summary["conventions"]["monai"]["overall"]["dice"]["mean"]


AFFINES = {
    "ras": RAS,
    "lps": np.diag([-2.0, -2.0, 5.0, 1.0]),
    "oblique": rotation(10) @ RAS,
    "far away": RAS + np.array([[0, 0, 0, -211.0], [0, 0, 0, 47], [0, 0, 0, 1300], [0, 0, 0, 0]]),
}


def test_labels_lie_on_the_sources_grid(trained, tmp_path):
    bundle, _, folder = trained
    for name, affine in AFFINES.items():
        save(tmp_path / "in" / f"{name}.nii.gz", volume(5)[0], affine)
    options = {**SMALL, "dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out")}
    run(bundle, "inference", **options, ckpt_dir=str(folder))
    for name in AFFINES:
        source = sitk.ReadImage(tmp_path / "in" / f"{name}.nii.gz")
        label = sitk.ReadImage(tmp_path / "out" / f"{name}_seg.nii.gz")
        assert label.GetPixelID() == sitk.sitkUInt8
        assert label.GetSize() == source.GetSize()
        for part in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(label, part)(), getattr(source, part)(), atol=1e-4)


def test_one_patient_gets_the_same_labels_however_stored(trained, tmp_path):
    """The same voxels, stored in different orders: the labels agree voxel by voxel in the patient's frame."""
    bundle, _, folder = trained
    for tilt in (0, 9):
        canonical = nibabel.Nifti1Image(volume(5)[0], rotation(tilt) @ RAS)
        for axcodes in ("RAS", "LPS", "SAR", "PIL"):
            target = nibabel.orientations.axcodes2ornt(axcodes)
            turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(canonical.affine), target)
            (tmp_path / "in").mkdir(exist_ok=True)
            nibabel.save(canonical.as_reoriented(turn), tmp_path / "in" / f"{axcodes}{tilt}.nii.gz")
    options = {**SMALL, "dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out")}
    run(bundle, "inference", **options, ckpt_dir=str(folder))
    for tilt in (0, 9):
        labels = {}
        for axcodes in ("RAS", "LPS", "SAR", "PIL"):
            stored = nibabel.load(tmp_path / "out" / f"{axcodes}{tilt}_seg.nii.gz")
            assert "".join(nibabel.aff2axcodes(stored.affine)) == axcodes
            labels[axcodes] = np.asarray(nibabel.as_closest_canonical(stored).dataobj)
        assert not any(np.array_equal(labels["RAS"], np.flip(labels["RAS"], axis)) for axis in range(3))
        for axcodes, found in labels.items():
            # memory is laid out otherwise, so that sums may round otherwise
            assert np.mean(found != labels["RAS"]) < 1e-3, axcodes


def test_a_dicom_series_gets_the_labels_of_its_nifti(trained, tmp_path):
    bundle, _, folder = trained
    affine = rotation(6) @ np.diag([-2.0, -2.0, 5.0, 1.0])
    write_ct_series(tmp_path / "series", volume(5)[0], affine)
    save(tmp_path / "nifti.nii.gz", volume(5)[0], affine)
    for source in ("series", "nifti.nii.gz"):
        options = {"dataset_dir": str(tmp_path / source), "output_dir": str(tmp_path / "out")}
        run(bundle, "inference", **SMALL, **options, ckpt_dir=str(folder))
    series, nifti = (sitk.ReadImage(tmp_path / "out" / f"{name}_seg.nii.gz") for name in ("series", "nifti"))
    assert (
        np.mean(sitk.GetArrayFromImage(series) != sitk.GetArrayFromImage(nifti)) < 1e-3
    )  # memory is laid out otherwise
    for part in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(series, part)(), getattr(nifti, part)(), atol=1e-3)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_preprocessed_files_and_the_papers_split(bundle, tmp_path):
    data = write_preprocessed_synapse(tmp_path / "data", [5, 6, 7], [8])
    folders = {"dataset_dir": str(data), "output_dir": str(tmp_path), "ckpt_dir": str(tmp_path)}
    run(bundle, "train", **TINY, **folders, split="paper")
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    last = torch.load(tmp_path / "last.pt", weights_only=True)["objects"]["network"]
    assert all(
        torch.equal(weights[name], last[name]) for name in last
    )  # without validation the last epoch is the model
    run(bundle, "train", "evaluate", **SMALL, **folders, split="paper")
    assert json.loads((tmp_path / "summary.json").read_text())["number_of_cases"] == 1


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_command_line_from_inside_the_bundle(bundle, tmp_path):
    data = write_raw_synapse(tmp_path / "data", [5, 6, 1])
    arguments = ["--epochs", "1", "--val_interval", "1", "--image_size", "[32,32]", "--num_workers", "0"]
    arguments += ["--dataset_dir", str(data), "--output_dir", str(tmp_path), "--ckpt_dir", str(tmp_path)]
    done = command("run", "--config_file", "configs/train.json", *arguments, cwd=ROOT / "bundles" / bundle)
    assert done.returncode == 0, done.stderr
    assert "1 training, 1 validation, 1 test" in done.stdout
    assert (tmp_path / "model.pt").is_file()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_failed_run_ends_with_the_cause(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    done = command("run", "--config_file", *config(bundle, "train"), "--dataset_dir", str(tmp_path / "empty"))
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"monai_ext: {tmp_path / 'empty'}: no Synapse data found. Expected")


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda image, label: (np.where(image > 900, np.nan, image).astype(np.float32), label), "not finite"),
        (lambda image, label: (np.zeros_like(image), label), "every value is 0"),
        (lambda image, label: (image, label + 50), r"label values \[50"),
        (lambda image, label: (image[..., 0], label[..., 0]), "24x20, expected a volume"),
    ],
    ids=["nan", "constant", "labels", "2d"],
)
def test_bad_volumes_stop_before_training(bundle, tmp_path, damage, message):
    data = write_raw_synapse(tmp_path / "data", [5, 6, 7, 1])
    image, label = damage(*volume(6))
    save(data / "RawData/Training/img/img0006.nii.gz", image)
    save(data / "RawData/Training/label/label0006.nii.gz", label)
    folders = {"dataset_dir": str(data), "output_dir": str(tmp_path), "ckpt_dir": str(tmp_path)}
    with pytest.raises(RuntimeError) as caught:
        run(bundle, "train", **TINY, **folders)
    cause: BaseException = caught.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert re.search(rf"^monai_ext: .*0006\.nii\.gz: .*{message}", str(cause))
    assert not (tmp_path / "last.pt").exists()


def test_weights_of_another_network_are_refused(trained, tmp_path):
    bundle, data, _ = trained
    torch.save(torch.nn.Conv2d(1, 9, 1).state_dict(), tmp_path / "model.pt")
    options = {**SMALL, "dataset_dir": str(data / "RawData/Training/img"), "ckpt_dir": str(tmp_path)}
    with pytest.raises(RuntimeError) as caught:
        run(bundle, "inference", **options, output_dir=str(tmp_path / "out"))
    assert "model.pt: its weights do not fit DCAUNet" in str(caught.value.__cause__)
    with pytest.raises(RuntimeError) as caught:
        run(bundle, "inference", **{**options, "ckpt_dir": str(tmp_path / "none")}, output_dir=str(tmp_path / "out"))
    assert "model.pt: no such weights file. Train first" in str(caught.value.__cause__)
    assert not (tmp_path / "out").exists()
