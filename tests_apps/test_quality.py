# SPDX-License-Identifier: Apache-2.0
"""What MONAI Label and MONAI Deploy say of a label whose weights are calibrated, and that it stays the same label."""

from __future__ import annotations

import json

import nibabel
import numpy as np

from monai_ext.apps.deploy import deploy
from monai_ext.apps.label.compat import prepare_imports
from monai_ext.apps.label.folder import chosen_bundles, prepare_app
from monai_ext.apps.quality import calibrate, quality_file
from monai_ext.apps.segmentation import segment
from tests.apps.test_quality import scan
from tests.dicom import write_ct_series
from tests_apps.bundles import write_bundle
from tests_apps.studies import save
from tests_apps.test_deploy_app import oblique_study, results

BUNDLE = "dcaunet_synapse"


def test_label_and_deploy_say_what_segment_says(tmp_path):
    bundle = write_bundle(tmp_path / "bundles", BUNDLE, size=32)
    parts = {"training": [], "validation": [], "test": []}
    for k in range(9):
        for name, voxels in zip(("image", "label"), scan(k)):
            save(tmp_path / f"{name}{k}.nii.gz", voxels, np.diag([2.0, 2.0, 5.0, 1.0]))
        part = "training" if k < 3 else "validation" if k < 8 else "test"
        parts[part].append({"image": f"image{k}.nii.gz", "label": f"label{k}.nii.gz"})
    (tmp_path / "list.json").write_text(json.dumps(parts))
    calibrate(bundle, datalist=str(tmp_path / "list.json"), num_workers=0)
    image, affine = oblique_study("axial")
    source = save(tmp_path / "ct.nii.gz", image, affine)
    found = segment(bundle, source, tmp_path / "labels", quality=True, num_workers=0)
    (expected,) = found.quality.values()
    assert expected["flag"] in ("sound", "doubtful", "unlike training")

    write_ct_series(tmp_path / "study", image, affine)
    deploy(str(bundle), str(tmp_path / "study"), str(tmp_path / "out"))
    told = json.loads((results(tmp_path / "out") / f"{BUNDLE}_volumes.json").read_text())["quality"]
    assert told["flag"] == expected["flag"]
    np.testing.assert_allclose(told["expected_dice"], expected["expected_dice"], atol=1e-3)

    prepare_imports()
    from monai_ext.apps.label.infer import BundleInference

    app = tmp_path / "app"
    prepare_app(app, chosen_bundles(str(bundle)))
    task = BundleInference(str(app / "model" / BUNDLE), {})
    file, answer = task({"image": str(source)})
    np.testing.assert_array_equal(np.asarray(nibabel.load(file).dataobj), np.asarray(nibabel.load(found[0]).dataobj))
    assert answer["quality"]["flag"] == expected["flag"]
    np.testing.assert_allclose(answer["quality"]["expected_dice"], expected["expected_dice"], atol=1e-3)
    assert ("unlike those" in answer.get("warning", "")) == expected["unlike_training"]
    assert "quality" not in task({"image": str(source), "quality": False})[1]
    # annotators have taught the model since
    served = app / "model" / BUNDLE / "models" / "model.pt"
    served.write_bytes(served.read_bytes() + b"0")
    assert quality_file(served).is_file()
    file, answer = task({"image": str(source)})
    assert answer["quality"]["flag"] == "unknown"
    assert "is of other weights" in answer["quality"]["reason"]
