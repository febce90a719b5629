# SPDX-License-Identifier: Apache-2.0
"""A bundle of several channels with regions: Label serves studies of four dimensions, Deploy refuses it."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch

from monai_ext.apps.deploy import deploy
from monai_ext.apps.label.compat import prepare_imports
from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle
from monai_ext.phantoms import write_brain_phantom
from tests.apps import discs
from tests.apps.light import light_template
from tests.apps.thresholds import give_thresholds
from tests_apps.server import Server


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Three thresholds of channel 2, one for each region, at the size of the slices."""
    home = tmp_path_factory.mktemp("brain")
    write_brain_phantom(home / "data", 5, progress=False, workers=1, coarse=4)
    folder = new_bundle("brain", nnunet=home / "data", where=home, progress=False)[0]
    give_thresholds(folder)
    return folder


def test_label_serves_studies_of_four_dimensions(bundle, tmp_path):
    prepare_imports()
    from monai_ext.apps.label.infer import BundleInference
    from monai_ext.apps.label.uncertainty import uncertainty

    files = sorted((bundle.parents[1] / "data/imagesTs").glob("*.nii.gz"))
    images = [nibabel.load(file) for file in files]
    study = tmp_path / "study.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.stack([np.asarray(i.dataobj) for i in images], -1), images[0].affine), study)
    task = BundleInference(str(bundle), {})
    assert list(task.labels) == ["whole tumour", "tumour core", "enhancing tumour"]
    file, _ = task({"image": str(study), "device": "cpu"})
    (expected,) = segment(bundle, ",".join(map(str, files)), tmp_path / "out", num_workers=0)
    served, written = nibabel.load(file), nibabel.load(expected)
    np.testing.assert_array_equal(np.asarray(served.dataobj), np.asarray(written.dataobj))
    np.testing.assert_allclose(served.affine, written.affine, atol=1e-4)
    assert set(np.unique(np.asarray(written.dataobj))) == {0, 1, 2, 3}
    assert 0 <= task.predict_with(str(study), uncertainty) < 1
    with pytest.raises(ValueError, match="1 channel, expected 4"):
        task({"image": str(files[0]), "device": "cpu"})


def test_a_server_with_a_plan_in_3d(bundle, tmp_path):
    """Windows of volumes at the planned spacing: the server's label is the bundle's, and its study can be asked for."""
    data = bundle.parents[1] / "data"
    made, choices = new_bundle("volumes", light_template(tmp_path / "light"), nnunet=data, where=tmp_path, dims=3,
                               memory="60MB", progress=False)  # fmt: skip
    assert "dims: 3, as asked" in " ".join(choices)
    torch.manual_seed(0)
    network = Bundle(made).parser("inference", num_workers=0).get_parsed_content("network_def")
    (made / "models").mkdir()
    torch.save(network.state_dict(), made / "models" / "model.pt")
    files = sorted((data / "imagesTs").glob("*.nii.gz"))
    images = [nibabel.load(file) for file in files]
    (tmp_path / "studies").mkdir()
    voxels = np.stack([np.asarray(image.dataobj) for image in images], -1)
    nibabel.save(nibabel.Nifti1Image(voxels, images[0].affine), tmp_path / "studies" / "head.nii.gz")
    (written,) = map(nibabel.load, segment(made, ",".join(map(str, files)), tmp_path / "out", num_workers=0))
    with Server(tmp_path / "studies", [made]) as served:
        answer = served.infer("volumes", "head")
        assert answer.status_code == 200, answer.text
        (tmp_path / "served.nii.gz").write_bytes(answer.content)
        found = nibabel.load(tmp_path / "served.nii.gz")
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(written.dataobj))
        np.testing.assert_allclose(found.affine, written.affine, atol=1e-4)
        assert len(np.unique(np.asarray(found.dataobj))) > 1
        chosen = served.next_sample("uncertainty", model="volumes", max_studies=10).json()
        assert chosen["id"] == "head"
        assert 0 < chosen["uncertainty"] <= 1


def test_deploy_refuses_it_in_one_line(bundle, tmp_path):
    with pytest.raises(ValueError, match=r"brain takes 4 channels \(FLAIR, T1w, T1gd, T2w\), and deploy reads one"):
        deploy(str(bundle), str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_label_serves_pictures_with_regions(tmp_path):
    """Labels are those of ``segment``, written in the regions' order; a picture's uncertainty is that of sigmoids."""
    prepare_imports()
    from monai_ext.apps.label.infer import BundleInference
    from monai_ext.apps.label.uncertainty import uncertainty

    data = discs.write_pictures(tmp_path / "data", discs.REGIONS, cases=5)
    folder = new_bundle("discs", discs.TEMPLATE, nnunet=data, where=tmp_path, progress=False)[0]
    discs.give_thresholds(folder, [[100.0, 0, 0], [100.0, 0, 0]], [-70 / 255 * 100, -170 / 255 * 100])
    task = BundleInference(str(folder), {})
    assert list(task.labels) == ["whole", "core"]
    picture = data / "imagesTs/p_03_0000.png"
    file, _ = task({"image": str(picture), "device": "cpu"})
    found = (
        nibabel.load(file).get_fdata().squeeze() if str(file).endswith((".nii", ".nii.gz")) else discs.seen_label(file)
    )
    np.testing.assert_array_equal(found, discs.by_hand(picture))
    # far from each threshold a sigmoid of 100 times the distance is as good as certain
    assert 0 <= task.predict_with(str(picture), uncertainty) < 1e-3
    discs.give_thresholds(folder, [[1e-6, 0, 0], [1e-6, 0, 0]], [0.0, 0.0])
    assert BundleInference(str(folder), {}).predict_with(str(picture), uncertainty) == pytest.approx(1)
