# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's own server with every bundle: what an annotator gets is what the bundle writes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk
import torch
from PIL import Image

from monai_ext.data import DATASETS
from tests.apps.series import tilt
from tests.dicom import write_ct_series
from tests_apps.bundles import BUNDLES, random_weights, run_bundle
from tests_apps.dicom_seg import segments_of
from tests_apps.server import Server
from tests_apps.studies import ct, save

VOLUMES = [name for name in BUNDLES if name.endswith(("synapse", "acdc"))]
PICTURES = [name for name in BUNDLES if name not in VOLUMES]


def test_info_lists_every_bundle_with_its_labels(served):
    info = requests.get(f"{served.url}/info/", timeout=60).json()
    assert sorted(info["models"]) == BUNDLES == sorted(info["trainers"])
    assert set(info["strategies"]) == {"uncertainty", "random", "first"}
    names = DATASETS["synapse"].class_names
    model = info["models"]["dcaunet_synapse"]
    assert model["labels"] == {name: i + 1 for i, name in enumerate(names)}
    assert set(model["label_colors"]) == set(names)
    assert model["label_colors"]["spleen"] == [157, 108, 162]
    for name, model in info["models"].items():
        options = {"slices_per_batch", "test_time_mirroring"} if name in VOLUMES else set()
        assert set(model["config"]) == {"device", "model_filename", *options}
        assert model["dimension"] == (3 if name in VOLUMES else 2)
    assert info["datastore"]["total"] == 4


@pytest.mark.parametrize(
    ("bundle", "study"),
    [*((name, "mr" if name.endswith("acdc") else "ct") for name in VOLUMES), ("dcaunet_synapse", "patient_series")],
)
def test_volumes_as_the_bundle_writes_them(served, bundles, bundle, study, tmp_path):
    answer = served.infer(bundle, study)
    assert answer.status_code == 200, answer.text
    (tmp_path / "served.nii.gz").write_bytes(answer.content)
    # the series is read as DICOM by the bundle, as the NIfTI file made of it by the server
    source = served.studies / ("patient/series" if study == "patient_series" else f"{study}.nii.gz")
    expected = nibabel.load(run_bundle(bundles[bundle], source, tmp_path / "bundle"))
    found = nibabel.load(tmp_path / "served.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert len(np.unique(np.asarray(found.dataobj))) > 1
    image = nibabel.load(served.studies / f"{study}.nii.gz")
    assert found.shape == image.shape
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-5)
    assert np.count_nonzero(np.abs(image.affine[:3, :3]) > 0.01) > 5  # oblique


@pytest.mark.parametrize("bundle", PICTURES)
def test_pictures_as_the_bundle_writes_them(served, bundles, bundle, tmp_path):
    answer = served.infer(bundle, "us")
    assert answer.status_code == 200, answer.text
    (tmp_path / "served.png").write_bytes(answer.content)
    expected = run_bundle(bundles[bundle], served.studies / "us.png", tmp_path / "bundle")
    with Image.open(tmp_path / "served.png") as found, Image.open(expected) as label:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(label))
        assert found.mode == "P"
        assert found.size == (256, 192)


def test_slicer_gets_names_colours_and_the_same_voxels(served, tmp_path):
    """3D Slicer asks for NRRD."""
    nifti, nrrd = tmp_path / "label.nii.gz", tmp_path / "label.nrrd"
    nifti.write_bytes(served.infer("dcaunet_synapse", "ct").content)
    nrrd.write_bytes(served.infer("dcaunet_synapse", "ct", result_extension=".nrrd", result_dtype="uint8").content)
    a, b = sitk.ReadImage(str(nifti)), sitk.ReadImage(str(nrrd))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))
    for find in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(a, find)(), getattr(b, find)(), atol=1e-4)
    assert b.GetPixelID() == sitk.sitkUInt8
    assert b.GetMetaData("Segment4_Name") == "liver"
    assert b.GetMetaData("Segment4_LabelValue") == "5"


def test_options_change_how_it_is_done(served, tmp_path):
    """Fewer slices at once give the same label, mirrored views another."""
    plain, few, mirrored = (
        served.infer("dcaunet_synapse", "ct", **options).content
        for options in ({}, {"slices_per_batch": 3}, {"test_time_mirroring": True})
    )
    labels = []
    for name, content in (("plain", plain), ("few", few), ("mirrored", mirrored)):
        (tmp_path / f"{name}.nii.gz").write_bytes(content)
        labels.append(np.asarray(nibabel.load(tmp_path / f"{name}.nii.gz").dataobj))
    assert (labels[0] == labels[1]).mean() > 0.999
    assert (labels[0] != labels[2]).any()


def test_study_of_another_kind_is_an_error_in_words(served):
    answer = served.infer("dcaunet_synapse", "us")
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("monai_ext: ")
    assert "us.png: no volume by its name" in answer.json()["detail"]


def test_batch_inference_reports_what_failed_and_does_the_rest(served):
    answer = requests.post(
        f"{served.url}/batch/infer/dcaunet_synapse",
        params={"images": "all", "run_sync": "true"},
        json={"device": "cuda", "multi_gpu": True, "gpus": "all", "label_tag": "original"},
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert sorted(result) == ["ct", "mr", "patient_series", "us"]
    assert "us.png: no volume" in result["us"]["error"]
    assert (served.studies / "labels" / "original" / "patient_series.nii.gz").is_file()


def test_least_certain_study_comes_next(served):
    ask = {"model": "dcaunet_synapse", "max_studies": 10}
    answer = requests.post(f"{served.url}/activelearning/uncertainty", json=ask, timeout=300)
    assert answer.status_code == 200, answer.text
    chosen = answer.json()
    assert chosen["id"] in ("ct", "mr", "patient_series")
    assert 0 < chosen["uncertainty"] <= 1
    assert Path(chosen["path"]).is_file()
    assert requests.post(f"{served.url}/activelearning/random", json={}, timeout=60).json()["id"]
    unknown = requests.post(f"{served.url}/activelearning/uncertainty", json={"model": "unet"}, timeout=60)
    assert unknown.status_code == 404
    assert "no model 'unet'" in unknown.json()["detail"]


def test_corrected_labels_of_a_series_as_dicom_seg(served, bundles, tmp_path):
    """In a folder, too: what the model says, and what a person made of it."""
    image = nibabel.load(served.studies / "patient_series.nii.gz")
    names = DATASETS["synapse"].class_names
    label = nibabel.load(run_bundle(bundles["dcaunet_synapse"], served.studies / "patient/series", tmp_path / "bundle"))
    answer = served.infer("dcaunet_synapse", "patient_series", output="dicom_seg")
    assert answer.status_code == 200, answer.text
    (tmp_path / "infer.dcm").write_bytes(answer.content)
    masks = segments_of(tmp_path / "infer.dcm", image.affine, image.shape)
    assert tuple(masks) == names
    for value, name in enumerate(names, start=1):
        np.testing.assert_array_equal(masks[name], np.asarray(label.dataobj) == value)

    drawn = np.zeros(image.shape, np.uint8)
    drawn[10:20, 10:30, 2:5], drawn[30:40, 10:30, 3] = 1, 2
    file = save(tmp_path / "drawn.nii.gz", drawn, image.affine)
    segments = [{"name": "Spleen"}, {"name": "liver"}]
    assert served.save_label("patient_series", file, label_info=segments).status_code == 200
    answer = served.ask("/datastore/label", label="patient_series", tag="final", output="dicom_seg")
    assert answer.status_code == 200, answer.text
    (tmp_path / "corrected.dcm").write_bytes(answer.content)
    masks = segments_of(tmp_path / "corrected.dcm", image.affine, image.shape)
    assert tuple(masks) == ("spleen", "liver")
    np.testing.assert_array_equal(masks["spleen"], drawn == 1)
    np.testing.assert_array_equal(masks["liver"], drawn == 2)
    assert {s.SegmentAlgorithmType for s in pydicom.dcmread(tmp_path / "corrected.dcm").SegmentSequence} == {
        "SEMIAUTOMATIC"
    }
    removed = requests.delete(
        f"{served.url}/datastore/label", params={"id": "patient_series", "tag": "final"}, timeout=60
    )
    assert removed.status_code == 200

    answer = served.infer("dcaunet_synapse", "ct", output="dicom_seg")
    assert answer.status_code == 400
    assert "'ct' is no DICOM series" in answer.json()["detail"]


@pytest.mark.parametrize("study", ["nobody", "patient", "labels", "ct.nii.gz", "."])
def test_what_is_not_there_is_404(served, study):
    answers = [
        *(served.ask(path, image=study) for path in ("/datastore/image", "/datastore/image/info")),
        *(served.ask(path, label=study, tag="final") for path in ("/datastore/label", "/datastore/label/info")),
        served.ask("/datastore/label", label="ct", tag="nothing"),
        served.ask("/datastore/label/info", label="ct", tag="nothing"),
        served.infer("dcaunet_synapse", study),
        served.infer("dcaunet_synapse", study, output="dicom_seg"),
        served.save_label(study, served.studies / "ct.nii.gz"),
        requests.head(f"{served.url}/datastore/image", params={"image": study}, timeout=60),
        requests.head(f"{served.url}/datastore/label", params={"image": study, "tag": "final"}, timeout=60),
        requests.delete(f"{served.url}/datastore/image", params={"id": study}, timeout=60),
        requests.delete(f"{served.url}/datastore/label", params={"id": study, "tag": "final"}, timeout=60),
        requests.put(f"{served.url}/datastore/image/info", params={"image": study}, timeout=60),
    ]
    expected = 400 if study == "." else 404  # no name at all
    assert {answer.status_code for answer in answers} <= {expected, 404}


def test_series_and_files_that_arrive(served, tmp_path):
    """While the server runs; one that is still being copied is not taken for a whole one."""
    image, _, affine = ct(7)
    write_ct_series(tmp_path / "late", image, affine)
    files = sorted((tmp_path / "late").iterdir())
    folder = served.studies / "late" / "ct"
    folder.mkdir(parents=True)
    for file in files:
        shutil.copy(file, folder)
        time.sleep(0.5)
    tilted = served.studies / "tilted"
    shutil.copytree(tmp_path / "late", tilted)
    tilt(tilted, 10)
    served.wait_for("late_ct")
    assert nibabel.load(served.studies / "late_ct.nii.gz").shape == image.shape
    assert served.infer("dcaunet_synapse", "late_ct").status_code == 200
    served.wait_for("tilted")
    answer = served.infer("dcaunet_synapse", "tilted", result_extension=".nrrd")
    assert answer.status_code == 422
    assert "tilted.nii.gz: the gantry was tilted" in answer.json()["detail"]
    assert served.infer("dcaunet_synapse", "tilted").status_code == 200
    # a file that was written under another name first
    shutil.copy(served.studies / "ct.nii.gz", served.studies / "coming.part")
    (served.studies / "coming.part").rename(served.studies / "come.nii.gz")
    served.wait_for("come")
    for study in ("late_ct", "tilted", "come"):
        assert requests.delete(f"{served.url}/datastore/image", params={"id": study}, timeout=60).status_code == 200
    shutil.rmtree(served.studies / "late")
    shutil.rmtree(tilted)


def test_studies_that_cannot_be_read_stop_nothing(bundles, tmp_path):
    """Neither the start nor the next sample: links that lead nowhere or round and round, and a damaged file."""
    studies = tmp_path / "studies"
    image, _, affine = ct()
    save(studies / "b.nii.gz", image, affine)
    (studies / "a.nii.gz").write_bytes((studies / "b.nii.gz").read_bytes()[:1000])
    (studies / "gone.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    (studies / "series").mkdir()
    (studies / "series" / "gone.dcm").symlink_to(tmp_path / "gone.dcm")
    (studies / "round").symlink_to(studies)
    (studies / "away").symlink_to(tmp_path / "away")
    (studies / "labels" / "final").mkdir(parents=True)
    (studies / "labels" / "final" / "b.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    with Server(studies, [bundles["dcaunet_synapse"]]) as server:
        assert server.ask("/info/").json()["datastore"] == {"total": 2, "completed": 0, "label_tags": {}}
        for strategy in ("first", "random", "uncertainty"):
            chosen = server.next_sample(strategy)
            assert chosen.status_code == 200, chosen.text
            assert chosen.json()["id"] == "b"
        (studies / "b.nii.gz").unlink()
        assert server.next_sample("first").json() == {}


def test_api_page(served):
    page = requests.get(served.url, timeout=60)
    assert page.status_code == 200
    assert "swagger" in page.text.lower()
    assert "/infer/{model}" in requests.get(f"{served.url}/openapi.json", timeout=60).json()["paths"]


def test_weights_of_another_network_are_refused(served, bundles):
    """Not a bad label: an error that says what does not fit; the right weights work again at once."""
    weights = served.weights("xattnres_unet_synapse")
    kept = weights.read_bytes()
    try:
        torch.save(random_weights(bundles["dcaunet_synapse"], 0), weights)
        answer = served.infer("xattnres_unet_synapse", "ct")
        assert answer.status_code == 500
        assert "its weights do not fit XAttnResUNet" in answer.json()["detail"]
        weights.write_bytes(kept[: len(kept) // 2])
        answer = served.infer("xattnres_unet_synapse", "ct")
        assert answer.status_code == 500
        assert "no PyTorch file of plain tensors" in answer.json()["detail"]
    finally:
        weights.write_bytes(kept)
    assert served.infer("xattnres_unet_synapse", "ct").status_code == 200


def test_training_without_labels_says_so(served):
    served.train("dcaunet_acdc", max_epochs=1)
    task = served.wait_for_training()
    assert task["status"] == "ERROR"
    assert any("no study has a final label yet" in line for line in task["details"])


def test_nothing_of_a_request_is_left(served):
    """Not even in the app's folder, where it lies while the request is at work."""
    assert served.infer("dcaunet_synapse", "ct").status_code == 200
    assert served.infer("dcaunet_synapse", "patient_series", output="dicom_seg").status_code == 200
    end = time.monotonic() + 60
    while list((served.app / "scratch").iterdir()):  # removed after the answer
        assert time.monotonic() < end
        time.sleep(0.2)
