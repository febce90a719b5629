# SPDX-License-Identifier: Apache-2.0
"""The parts of the MONAI Label app that need no server."""

from __future__ import annotations

import math
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.nn as nn
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from PIL import Image

from monai_ext.apps.anatomy import STRUCTURES, colour_of
from monai_ext.apps.label import label
from monai_ext.apps.label.answers import write_label
from monai_ext.apps.label.cases import own_cases, split_cases
from monai_ext.apps.label.dicom_studies import SeriesFolders
from monai_ext.apps.label.folder import chosen_bundles, prepare_app
from monai_ext.apps.label.uncertainty import uncertainty
from monai_ext.bundle import Bundle
from monai_ext.data import DATASETS, VolumeReader
from monai_ext.inferers import SliceBatchInferer, SlidingWindowLabelInferer
from tests.data.volumes import RAS, rotation, save, volume
from tests.dicom import write_ct_series

CLASSES = {"background": 0, "aorta": 1, "liver": 2, "spleen": 3}


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundles" / "one"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    for name in ("inference.json", "metadata.json"):
        (folder / "configs" / name).write_text("{}")
    (folder / "models" / "model.pt").write_bytes(b"weights")
    return folder


def test_fine_tuned_weights_stay_and_configs_follow_the_bundle(bundle, tmp_path):
    app = tmp_path / "app"
    prepare_app(app, {"one": Bundle(bundle)})
    served = app / "model" / "one"
    assert (app / "main.py").is_file()
    (served / "models" / "model.pt").write_bytes(b"fine-tuned")
    (bundle / "configs" / "inference.json").write_text('{"changed": true}')
    (bundle / "configs" / "train.json").write_text("{}")
    prepare_app(app, {"one": Bundle(bundle)})
    assert (served / "configs" / "inference.json").read_text() == '{"changed": true}'
    assert (served / "configs" / "train.json").is_file()
    assert (served / "models" / "model.pt").read_bytes() == b"fine-tuned"
    assert (bundle / "models" / "model.pt").read_bytes() == b"weights"
    prepare_app(app, {})  # no longer served, but not forgotten
    assert not (served / "configs").exists()
    assert (served / "models" / "model.pt").read_bytes() == b"fine-tuned"


def test_bundles_by_name_and_by_folder(bundle, tmp_path):
    for given in (str(bundle), [str(bundle)]):
        assert {name: found.folder for name, found in chosen_bundles(given).items()} == {"one": bundle}
    shutil.copytree(bundle, tmp_path / "other" / "one")
    with pytest.raises(ValueError, match="have one name"):
        chosen_bundles(f"{bundle},{tmp_path / 'other' / 'one'}")
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"monai_ext: bundle one: no weights at .*model\.pt\. Train it \("):
        chosen_bundles(str(bundle))
    with pytest.raises(FileNotFoundError, match="monai_ext: no bundle 'dcaunet_synapsee'.*'dcaunet_synapse'"):
        chosen_bundles("dcaunet_synapsee")
    with pytest.raises(ValueError, match="monai_ext: --bundles names no bundle"):
        chosen_bundles(",")


def test_command_without_the_program_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="monai_ext: MONAI Label is not installed here. 'make apps'"):
        label(str(tmp_path))


def test_series_become_the_files_that_the_server_lists(tmp_path):
    image, _ = volume(shape=(8, 7, 5))
    write_ct_series(tmp_path / "a" / "ct", image, rotation(10) @ RAS)
    write_ct_series(tmp_path / "b", image, RAS)
    (tmp_path / "b" / "slice002.dcm").unlink()  # left out: a slice is missing
    (written,) = SeriesFolders(tmp_path).convert(settled=0)[0]
    assert written == tmp_path / "a_ct.nii.gz"
    array, meta = VolumeReader().get_data((str(tmp_path / "a" / "ct"),))
    found = nibabel.load(written)
    np.testing.assert_array_equal(np.asarray(found.dataobj), array)
    np.testing.assert_allclose(found.affine, meta["affine"], atol=1e-5)
    assert SeriesFolders(tmp_path).convert(settled=0)[0] == []


class Fixed(nn.Module):
    """The same logits for every pixel."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.reshape(1, -1, *[1] * (x.dim() - 2)).expand(len(x), -1, *x.shape[2:])


def test_uncertainty_is_the_weighted_entropy():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    expected = float(-(p * p.log()).sum()) / math.log(3)
    x = torch.rand(1, 1, 6, 5, 7)
    for logits, value in ((p.log().tolist(), expected), ([0.0, 0.0, 0.0], 1.0), ([0.0, 50.0, 0.0], 0.0)):
        network = Fixed(logits)
        for inferer in (SliceBatchInferer((4, 4), batch_size=3), SliceBatchInferer(None, batch_size=100)):
            assert uncertainty(x, network, inferer) == pytest.approx(value, abs=1e-5)
            assert inferer.output == "labels"
        assert uncertainty(x[..., 0], network, SimpleInferer()) == pytest.approx(value, abs=1e-5)
        windows = SlidingWindowLabelInferer((4, 4, 4), sw_batch_size=3)
        assert uncertainty(x, network, windows) == pytest.approx(value, abs=1e-5)


class HalfSure(nn.Module):
    """Background where the image is 0; elsewhere a guess between two organs, or certain of one."""

    def __init__(self, sure: bool) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        foreground = 40 * (x > 0).float()
        return torch.cat([40 - foreground, foreground, foreground * (0.0 if self.sure else 1.0)], dim=1)


def test_background_does_not_make_certain():
    small, large = torch.zeros(1, 1, 8, 8, 4), torch.zeros(1, 1, 8, 8, 4)
    small[..., :2, :2, :] = 1
    large[..., :6, :6, :] = 1
    inferer = SliceBatchInferer(None)
    guess = math.log(2) / math.log(3)
    for x in (small, large):
        assert uncertainty(x, HalfSure(False), inferer) == pytest.approx(guess, abs=1e-4)
        assert uncertainty(x, HalfSure(True), inferer) == pytest.approx(0, abs=1e-4)


def test_segments_are_taken_by_name(tmp_path):
    """The viewer's list was reordered and the aorta removed: number 1 is the spleen, 2 the liver."""
    drawn = np.zeros((4, 4, 3), np.uint8)
    drawn[0], drawn[1] = 1, 2
    affine = rotation(7) @ RAS
    file = save(tmp_path / "labels" / "ct.nii.gz", drawn, affine)
    saved = {"image": "ct.nii.gz", "label": str(file), "segments": [{"name": "Spleen"}, {"name": "liver", "idx": 2}]}
    (case,) = own_cases([saved], CLASSES, tmp_path)
    assert case["label"] == str(tmp_path / "ct.nii.gz")
    found = nibabel.load(case["label"])
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.choose(drawn, [0, 3, 2]))
    np.testing.assert_allclose(found.affine, affine, atol=1e-5)
    assert own_cases([{**saved, "segments": None}], CLASSES, tmp_path) == [{"image": "ct.nii.gz", "label": str(file)}]
    with pytest.raises(ValueError, match=r"ct.nii.gz: values \[2\] without a segment of that number"):
        own_cases([{**saved, "segments": [{"name": "spleen"}]}], CLASSES, tmp_path)


def test_label_values_are_whole_numbers_within_a_thousandth(tmp_path):
    drawn = np.zeros((4, 4, 3))
    drawn[0], drawn[1] = 0.9999999, 2.0004
    saved = {"image": "ct.nii.gz", "label": str(save(tmp_path / "labels" / "ct.nii.gz", drawn))}
    saved["segments"] = [{"name": "Spleen"}, {"name": "liver"}]
    (case,) = own_cases([saved], CLASSES, tmp_path)
    found = np.asarray(nibabel.load(case["label"]).dataobj)
    np.testing.assert_array_equal(found, np.choose(np.rint(drawn).astype(int), [0, 3, 2]))
    for value, shown in ((0.5, r"0\.5"), (np.nan, "NaN")):
        drawn[2, 2, 2] = value
        save(tmp_path / "labels" / "ct.nii.gz", drawn)
        with pytest.raises(ValueError, match=rf"ct\.nii\.gz: label values {shown} \(1 of 48\), expected whole numbers"):
            own_cases([saved], CLASSES, tmp_path)


def test_a_label_of_several_slices_is_none_of_a_picture(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((2, 5, 7), np.uint8)), str(tmp_path / "us.nrrd"))
    saved = {"image": "us.jpg", "label": str(tmp_path / "us.nrrd"), "segments": [{"name": "nodule"}]}
    with pytest.raises(ValueError, match=r"us\.nrrd: 7x5x2 values, expected one slice"):
        own_cases([saved], {"background": 0, "nodule": 1}, tmp_path)


def test_segments_of_pictures(tmp_path):
    drawn = np.zeros((5, 7), np.uint8)
    drawn[2] = 1
    Image.fromarray(drawn).save(tmp_path / "us.png")
    (tmp_path / "own").mkdir()
    classes = {"background": 0, "cyst": 1, "nodule": 2}
    saved = {"image": "us.jpg", "label": str(tmp_path / "us.png"), "segments": [{"name": "nodule"}]}
    (case,) = own_cases([saved], classes, tmp_path / "own")
    with Image.open(case["label"]) as found:
        np.testing.assert_array_equal(np.asarray(found), drawn * 2)
    # 3D Slicer saves a picture's label as a volume of one slice
    sitk.WriteImage(sitk.GetImageFromArray(drawn[None]), str(tmp_path / "us.nrrd"))
    (case,) = own_cases([{**saved, "label": str(tmp_path / "us.nrrd")}], classes, tmp_path / "own")
    with Image.open(case["label"]) as found:
        np.testing.assert_array_equal(np.asarray(found), drawn * 2)


@pytest.mark.parametrize(("cases", "share", "kept"), [(1, 0.2, 0), (2, 0.2, 1), (5, 0.2, 1), (10, 0.3, 3), (4, 0, 0)])
def test_split(cases, share, kept):
    parts = split_cases([{"image": str(i)} for i in range(cases)], share)
    assert len(parts["validation"]) == kept
    assert len(parts["training"]) == cases - kept > 0
    with pytest.raises(ValueError, match="val_split must be at least 0 and below 1"):
        split_cases([], 1.5)


def test_label_as_nrrd_lies_where_the_nifti_does(tmp_path):
    array = np.arange(24).reshape(1, 2, 3, 4) % 4
    drawn = MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(rotation(30) @ RAS))
    colours = {name: colour_of(name) for name in CLASSES}
    files = [str(tmp_path / name) for name in ("a.nii.gz", "a.nrrd", "a.seg.nrrd")]
    for file in files:
        write_label(file, drawn, CLASSES, colours, compress=True)
    (first, meta), (second, other), (third, _) = (VolumeReader().get_data((file,)) for file in files)
    np.testing.assert_array_equal(first, array[0])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_allclose(meta["affine"], other["affine"], atol=1e-5)
    with pytest.raises(ValueError, match="a label is written as .nii, .nii.gz, .png .of a picture. or .nrrd"):
        write_label(str(tmp_path / "a.jpg"), drawn, CLASSES, colours)


def test_every_class_has_a_name_and_a_colour():
    bundles = ("synapse", "acdc", "kvasir", "busi", "isic2016", "clinicdb")
    names = {name for dataset in bundles for name in DATASETS[dataset].class_names}
    assert names <= set(STRUCTURES)
    assert colour_of("Liver") == STRUCTURES["liver"].colour
    assert colour_of("hamate") == colour_of("HAMATE") != colour_of("lunate")
    assert all(0 <= part <= 255 for part in colour_of("hamate"))
