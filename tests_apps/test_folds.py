# SPDX-License-Identifier: Apache-2.0
"""A bundle after its cross-validation, in MONAI Label and MONAI Deploy: the labels of its own inference."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_ext.apps.deploy import deploy
from monai_ext.apps.label.compat import prepare_imports
from monai_ext.apps.label.folder import chosen_bundles, prepare_app
from tests.dicom import write_ct_series
from tests_apps.bundles import random_weights, run_bundle, write_bundle
from tests_apps.studies import save
from tests_apps.test_deploy_app import label_of, oblique_study, results

BUNDLE = "dcaunet_synapse"


@pytest.fixture
def folds(tmp_path) -> Path:
    """Two folds, and a decision on the class that is in most parts."""
    bundle = write_bundle(tmp_path / "bundles", BUNDLE, size=64)
    models = bundle / "models"
    (models / "model.pt").rename(models / "fold0.pt")
    torch.save(random_weights(bundle, 7), models / "fold1.pt")
    return bundle


def voxels(file: Path | str) -> np.ndarray:
    return np.asarray(nibabel.load(file).dataobj)


def decide(bundle: Path, label: int | None = None) -> None:
    content = {"checkpoints": ["fold0.pt", "fold1.pt"], "largest_component": [] if label is None else [label]}
    (bundle / "models" / "crossval.json").write_text(json.dumps({**content, "model": None}))


def test_label_and_deploy_use_the_ensemble_and_its_decision(folds, tmp_path):
    image, affine = oblique_study("axial")
    source = save(tmp_path / "ct.nii.gz", image, affine)
    decide(folds)
    plain = voxels(run_bundle(folds, source, tmp_path / "plain"))
    parts = {k: ndimage.label(plain == k, np.ones((3, 3, 3)))[1] for k in np.unique(plain).tolist() if k}
    decide(folds, max(parts, key=lambda k: parts[k]))
    expected = voxels(run_bundle(folds, source, tmp_path / "decided"))
    assert (expected != plain).any()

    write_ct_series(tmp_path / "study", image, affine)
    deploy(str(folds), str(tmp_path / "study"), str(tmp_path / "out"))
    found = label_of(results(tmp_path / "out") / f"{BUNDLE}_seg.dcm", affine, image.shape)
    np.testing.assert_array_equal(found, expected)

    prepare_imports()
    from monai_ext.apps.label.infer import BundleInference

    app = tmp_path / "app"
    prepare_app(app, chosen_bundles(str(folds)))
    task = BundleInference(str(app / "model" / BUNDLE), {})
    assert task.config()["model_filename"] == ["ensemble", "model.pt", "fold0.pt", "fold1.pt"]
    np.testing.assert_array_equal(voxels(task({"image": str(source)})[0]), expected)
    # one fold has neither the others nor the decision
    alone = voxels(task({"image": str(source), "model_filename": "fold1.pt"})[0])
    (folds / "models" / "fold1.pt").rename(folds / "models" / "model.pt")
    (folds / "models" / "crossval.json").unlink()
    np.testing.assert_array_equal(alone, voxels(run_bundle(folds, source, tmp_path / "alone")))
    # what annotators have taught comes first
    served = app / "model" / BUNDLE / "models"
    (served / "fold1.pt").replace(served / "model.pt")
    torch.save(random_weights(folds, 7), served / "fold1.pt")
    assert task.config()["model_filename"][:2] == ["model.pt", "ensemble"]
    np.testing.assert_array_equal(voxels(task({"image": str(source)})[0]), alone)
