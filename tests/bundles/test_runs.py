# SPDX-License-Identifier: Apache-2.0
"""Every bundle as a user runs it: train, evaluate, segment, on one process and on two, at small sizes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from monai_ext.apps.view import find_viewed
from monai_ext.apps.view.layers import read_layers
from monai_ext.data import load_datalist, write_phantom
from tests.bundles.runs import BUNDLES, ROOT, config, run
from tests.data.volumes import write_acdc, write_raw_synapse

PICTURES = [name for name in BUNDLES if name.partition("_")[0] == "qtseg" or name.endswith(("kvasir", "clinicdb"))]
# two processes need not be tried with every network
PARALLEL = ["dcaunet_acdc", "qtseg_busi"]


def small(bundle: str) -> dict:
    size = 64 if "emcad" in bundle else 32
    options = {"image_size": size if bundle.startswith("qtseg") else [size, size], "num_workers": 0}
    return options if bundle in PICTURES else {**options, "batch_size": 4}


def dataset_of(bundle: str) -> str:
    return json.loads(Path(config(bundle, "train")[0]).read_text())["dataset_name"]


def write_data(bundle: str, folder: Path) -> Path:
    dataset = dataset_of(bundle)
    if dataset == "synapse":
        return write_raw_synapse(folder, [5, 6, 7, 9, 1, 2])
    if dataset == "acdc":
        return write_acdc(folder, [1, 2, 15, 17, 18, 19])
    write_phantom(dataset, folder, 16)
    return folder


@pytest.fixture(scope="module", params=BUNDLES)
def trained(request, tmp_path_factory):
    """A bundle after one epoch: its name, its data and its output folder."""
    folder = tmp_path_factory.mktemp(request.param)
    data = write_data(request.param, folder / "data")
    options = {**small(request.param), "epochs": 1, "val_interval": 1, "batch_size": 4}
    run(request.param, "train", **options, dataset_dir=str(data), output_dir=str(folder), ckpt_dir=str(folder))
    return request.param, data, folder


def test_training_evaluation_and_inference(trained, tmp_path):
    bundle, data, folder = trained
    folders = {"output_dir": str(tmp_path), "ckpt_dir": str(folder)}
    assert torch.load(folder / "last.pt", weights_only=True)["epoch"] == 1

    run(bundle, "train", "evaluate", **small(bundle), **folders, dataset_dir=str(data))
    test = load_datalist(dataset_of(bundle), data, split_file=folder / "split.json")["test"]
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert len(rows) == len(test) > 0
    page = (tmp_path / "report.html").read_text().lower()
    assert ("phantom data, no clinical meaning" in page) == (bundle in PICTURES)

    seen = find_viewed([tmp_path])  # the labels as they were scored, on the scans' grids
    assert sorted(case.name for case in seen) == sorted(row["case"] for row in rows)
    layers = read_layers(seen[0])
    assert layers.labels["truth"].shape == layers.labels["prediction"].shape == layers.scan.shape[1:4]
    (row,) = (row for row in rows if row["case"] == seen[0].name)
    for value, name in seen[0].class_names.items():
        truth, prediction = (layers.labels[kind] == value for kind in ("truth", "prediction"))
        if truth.any():
            dice = 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())
            assert float(row[f"{name}_dice"]) == pytest.approx(dice, abs=1e-6)

    source = Path(test[0]["image"])
    run(bundle, "inference", **small(bundle), **folders, dataset_dir=str(source))
    if bundle in PICTURES:
        with Image.open(tmp_path / f"{source.stem}_seg.png") as mask, Image.open(source) as image:
            assert mask.size == image.size
            assert mask.mode == "P"
            assert set(np.unique(np.asarray(mask))) <= {0, 1}
    else:
        label = nibabel.load(tmp_path / f"{source.name.split('.')[0]}_seg.nii.gz")
        assert label.shape == nibabel.load(source).shape
        np.testing.assert_allclose(label.affine, nibabel.load(source).affine, atol=1e-4)


def test_properties(trained, tmp_path):
    bundle, data, folder = trained
    source = load_datalist(dataset_of(bundle), data, split="paper")["test"][0]["image"]
    folders = {"output_dir": str(tmp_path), "ckpt_dir": str(folder)}
    for names, dataset_dir in ((["train"], data), (["train", "evaluate"], data), (["inference"], source)):
        kind = "inference" if names == ["inference"] else "training"
        workflow = ConfigWorkflow(
            config(bundle, *names), workflow_type=kind, dataset_dir=str(dataset_dir), **small(bundle), **folders
        )
        workflow.initialize()
        assert not workflow.check_properties()


def torchrun(bundle: str, names: list[str], **options) -> subprocess.CompletedProcess:
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    launcher = ["torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "monai.bundle", "run"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, "--config_file", str(config(bundle, *names)), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("bundle", PARALLEL)
def test_two_processes(bundle, tmp_path):
    """They train one network, and score every case once, with the numbers that one process finds."""
    data = write_data(bundle, tmp_path / "data")
    options = {**small(bundle), "batch_size": 2, "dataset_dir": data, "ckpt_dir": tmp_path}
    done = torchrun(
        bundle, ["train", "multi_gpu_train"], **options, output_dir=tmp_path, epochs=1, val_interval=1, cache_rate=0
    )
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1
    names = ["train", "evaluate", "multi_gpu_evaluate"]
    done = torchrun(bundle, names, **options, output_dir=tmp_path / "two")
    assert done.returncode == 0, done.stderr
    run(
        bundle,
        "train",
        "evaluate",
        **{k: str(v) if isinstance(v, Path) else v for k, v in options.items()},
        output_dir=str(tmp_path / "one"),
    )
    one, two = ((tmp_path / name / "metrics.csv").read_text() for name in ("one", "two"))
    assert len(one.splitlines()) == 1 + len(load_datalist(dataset_of(bundle), data)["test"])
    assert one == two


@pytest.mark.parametrize(("dataset", "classes"), [("monuseg", 2), ("dsb2018", 2), ("bkai_types", 3)])
def test_other_public_sets(dataset, classes, tmp_path):
    """Outlines in XML, a file per object, and colours, through one bundle by two options."""
    write_phantom(dataset, tmp_path / "data", 8 if dataset != "dsb2018" else 12)
    options = {**small("qtseg_busi"), "dataset_name": dataset, "dataset_dir": str(tmp_path / "data")}
    options |= {"output_dir": str(tmp_path), "ckpt_dir": str(tmp_path), "num_classes": classes}
    options["network_def#out_channels"] = classes
    run("qtseg_busi", "train", **options, epochs=1, val_interval=1, batch_size=2)
    run("qtseg_busi", "train", "evaluate", **options)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["conventions"]["monai"]["classes"]) == classes - 1
