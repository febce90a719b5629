# SPDX-License-Identifier: Apache-2.0
"""The overlays for 3D networks: trained, evaluated and run for a few steps on small volumes."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_ext.data import DATASETS
from monai_ext.metrics import label_metrics
from tests.bundles.runs import BUNDLES, ROOT, config, run
from tests.bundles.test_runs import torchrun
from tests.data.volumes import rotation, save, volume, write_raw_synapse

THREE_D = [name for name in BUNDLES if (ROOT / "bundles" / name / "configs" / "train_3d.json").is_file()]
RAS = np.diag([2.0, 2.0, 5.0, 1.0])
# thinner than a patch, so that padding is tried, too
SMALL = {"image_size": [32, 32, 32], "num_workers": 0, "patches_per_volume": 2}
# what a few steps need of a network
LIGHT = {
    "xattnres_unet_synapse": {"network_def#features": [8, 16, 32]},
    "unet_dca_synapse": {"network_def#features": [8, 16, 32]},
}


def light(bundle: str) -> dict:
    return {**SMALL, **LIGHT.get(bundle, {})}


def causes(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_raw_synapse(tmp_path_factory.mktemp("data"), [5, 6, 7, 1, 2], shape=(40, 36, 20))


@pytest.fixture(scope="module", params=THREE_D)
def trained(request, data, tmp_path_factory):
    """A bundle after one epoch in 3D, and its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    paths = {"dataset_dir": str(data), "output_dir": str(folder), "ckpt_dir": str(folder)}
    run(request.param, "train", "train_3d", **light(request.param), **paths, epochs=1, val_interval=1)
    return request.param, folder


def test_the_three_bundles():
    assert THREE_D == ["dcaunet_synapse", "unet_dca_synapse", "xattnres_unet_synapse"]


def test_training_evaluation_and_inference(trained, data, tmp_path):
    """The report scores what inference writes, on the source's grid."""
    bundle, folder = trained
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert any(value.dim() == 5 for value in weights.values())  # 3D kernels
    paths = {"output_dir": str(tmp_path), "ckpt_dir": str(folder)}
    run(bundle, "train", "train_3d", "evaluate", **light(bundle), **paths, dataset_dir=str(data))
    summary = json.loads((tmp_path / "summary.json").read_text())

    images = data / "RawData/Training/img"
    affine = rotation(10) @ RAS
    save(tmp_path / "in" / "oblique.nii.gz", volume(3, (40, 36, 20))[0], affine)
    for case in ("0001", "0002"):
        (tmp_path / "in" / f"img{case}.nii.gz").symlink_to(images / f"img{case}.nii.gz")
    run(bundle, "inference", "inference_3d", **light(bundle), **paths, dataset_dir=str(tmp_path / "in"))
    label = nibabel.load(tmp_path / "oblique_seg.nii.gz")
    assert label.shape == (40, 36, 20) and label.get_data_dtype() == np.uint8
    np.testing.assert_allclose(label.affine, affine, atol=1e-5)

    mapping, dice = DATASETS["synapse"].find(data).label_mapping, []
    for case in ("0001", "0002"):
        pred = np.asarray(nibabel.load(tmp_path / f"img{case}_seg.nii.gz").dataobj)
        codes = np.asarray(nibabel.load(images.parent / f"label/label{case}.nii.gz").dataobj)
        dice.append(label_metrics(pred, np.vectorize(mapping.get)(codes), num_classes=9, spacing=(2, 2, 5))["dice"])
    found = summary["conventions"]["monai"]["overall"]["dice"]["mean"]
    assert found == pytest.approx(np.mean(dice), abs=1e-6)
    assert summary["number_of_cases"] == 2


def test_properties(trained, data, tmp_path):
    bundle, folder = trained
    paths = {"output_dir": str(tmp_path), "ckpt_dir": str(folder)}
    source = data / "RawData/Training/img"
    for names, kind, where in (
        (["train", "train_3d"], "training", data),
        (["train", "train_3d", "evaluate"], "training", data),
        (["inference", "inference_3d"], "inference", source),
    ):
        options = {**light(bundle), **paths, "dataset_dir": str(where)}
        workflow = ConfigWorkflow(config(bundle, *names), workflow_type=kind, **options)
        workflow.initialize()
        assert not workflow.check_properties()


def test_a_resumed_training_is_the_uninterrupted_one(data, tmp_path):
    bundle = "unet_dca_synapse"
    options = {**light(bundle), "dataset_dir": str(data), "split": "paper", "rotation": 0.3}
    for name, parts in (("whole", [2]), ("parts", [1, 2])):
        for epochs in parts:
            paths = {"output_dir": str(tmp_path / name), "ckpt_dir": str(tmp_path / name)}
            run(bundle, "train", "train_3d", **options, **paths, epochs=epochs, resume=epochs > parts[0])
    whole, parts = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_the_strong_recipe(data, tmp_path):
    """Over the overlay for 3D; it is another training than without, and goes on as any."""
    bundle = "unet_dca_synapse"
    paths = {"dataset_dir": str(data), "split": "paper"}
    weights = []
    for name, files in (("plain", ["train", "train_3d"]), ("strong", ["train", "train_3d", "strong_3d"])):
        own = {"output_dir": str(tmp_path / name), "ckpt_dir": str(tmp_path / name), "epochs": 1}
        run(bundle, *files, **light(bundle), **paths, **own)
        weights.append(torch.load(tmp_path / name / "model.pt", weights_only=True))
    assert any(not torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert all(torch.isfinite(value).all() for value in weights[1].values())


def test_a_network_of_another_method(data, tmp_path):
    """With a ``network_def`` of its own."""
    network = {"_target_": "monai_ext.networks.nets.QTSeg", "base_width": 8, "depths": [1, 1, 1], "out_channels": 9}
    definition = {**network, "spatial_dims": 3, "in_channels": 1}
    options = {**SMALL, "dataset_dir": str(data), "ckpt_dir": str(tmp_path), "network_def": definition}
    run("dcaunet_synapse", "train", "train_3d", **options, output_dir=str(tmp_path / "train"), epochs=1, val_interval=1)
    run("dcaunet_synapse", "train", "train_3d", "evaluate", **options, output_dir=str(tmp_path / "test"))
    assert (tmp_path / "test" / "report.html").is_file()


def test_another_bundles_own_training(data, tmp_path):
    """Its network and loss, deep supervision too, with the overlay of a bundle that changes no more of the network."""
    files = config("xattnres_emcad_synapse", "train") + config("dcaunet_synapse", "train_3d")
    options = {**SMALL, "dataset_dir": str(data), "ckpt_dir": str(tmp_path), "output_dir": str(tmp_path)}
    options |= {"network_def#encoder": "pvt_v2_b0", "epochs": 1, "split": "paper"}
    workflow = ConfigWorkflow(files, workflow_type="training", **options)
    workflow.initialize()
    workflow.run()
    assert any(value.dim() == 5 for value in torch.load(tmp_path / "model.pt", weights_only=True).values())


def test_an_ensemble_in_3d(trained, data, tmp_path):
    bundle, folder = trained
    knobs = {"tta": "true", "ckpt_paths": [str(folder / "model.pt")]}
    options = {**light(bundle), "dataset_dir": str(data / "RawData/Training/img/img0001.nii.gz")}
    names = ["inference", "inference_3d", "ensemble_inference"]
    run(bundle, *names, **options, **knobs, output_dir=str(tmp_path))
    assert nibabel.load(tmp_path / "img0001_seg.nii.gz").shape == (40, 36, 20)


def test_two_processes(tmp_path):
    bundle = "unet_dca_synapse"
    data = write_raw_synapse(tmp_path / "data", [5, 6, 7, 9, 10, 21, 23, 24, 26, 1], shape=(32, 32, 16))
    options = {**light(bundle), "image_size": "[32,32,16]", "patches_per_volume": 1, "epochs": 1, "val_interval": 1}
    paths = {"dataset_dir": data, "output_dir": tmp_path, "ckpt_dir": tmp_path}
    done = torchrun(bundle, ["train", "train_3d", "multi_gpu_train"], **options, **paths)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 1


def test_weights_of_a_2d_network_are_refused(data, tmp_path):
    from monai_ext.networks.nets import UNetDCA

    torch.save(
        UNetDCA(spatial_dims=2, in_channels=1, out_channels=9, features=(8, 16, 32)).state_dict(), tmp_path / "model.pt"
    )
    options = {**light("unet_dca_synapse"), "dataset_dir": str(data / "RawData/Training/img/img0001.nii.gz")}
    with pytest.raises(RuntimeError) as caught:
        run(
            "unet_dca_synapse", "inference", "inference_3d", **options, ckpt_dir=str(tmp_path), output_dir=str(tmp_path)
        )
    assert "model.pt: its weights do not fit UNetDCA" in causes(caught.value)
