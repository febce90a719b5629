# SPDX-License-Identifier: Apache-2.0
"""Pictures with regions and with pixels that nobody has looked at, from nnU-Net's folder to labels and scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ext.apps.crossval import crossval
from monai_ext.apps.data_check import check_dataset
from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.quality import calibrate
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle
from monai_ext.data import MaskReader, load_datalist
from tests.apps.discs import CLASSES, RED, REGIONS, TEMPLATE, by_hand, give_thresholds, seen_label, write_pictures
from tests.bundles import test_contract as contract
from tests.bundles.runs import run

FEW = {"epochs": 1, "val_interval": 1, "batch_size": 4, "num_workers": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), REGIONS)


@pytest.fixture(scope="module")
def made(data) -> Path:
    folder, choices = new_bundle("discs", TEMPLATE, nnunet=data, where=data, progress=False)
    told = " ".join(choices)
    assert "regions: a sigmoid each" in told and "label value 3 take no part" in told
    return folder.resolve()


@pytest.fixture(scope="module")
def fixed(made) -> Path:
    folder = made.with_name("discs_fixed")
    shutil.copytree(made, folder)
    give_thresholds(folder, [[100.0, 0, 0], [100.0, 0, 0]], [-70 / 255 * 100, -170 / 255 * 100])
    return folder


def test_the_bundle_keeps_the_contract(made, data, tmp_path, monkeypatch):
    monkeypatch.chdir(made.parents[1])
    listed = json.loads((made / "datalist.json").read_text())
    assert listed["labels"] == REGIONS["labels"] and listed["regions_class_order"] == [1, 2]
    train = json.loads((made / "configs/train.json").read_text())
    assert train["network_def"]["out_channels"] == 2
    assert train["loss"]["_target_"] == "monai_ext.losses.LabelLoss"
    assert Bundle(made).channel_def == {0: "background", 1: "whole", 2: "core"}
    for check in contract.CHECKS_OF_A_MADE_BUNDLE:
        check(str(made))
    contract.test_metadata(str(made), tmp_path)
    found = check_dataset("kvasir", datalist=data / "dataset.json", progress=False)
    assert not found.errors
    assert any("every voxel is to be ignored" in note for note in found.notes)
    assert found.class_names == ("whole", "core")
    assert found.with_class == [8, 8]


def test_labels_of_regions_in_their_order(fixed, data, tmp_path):
    """By ``segment``, mirrored, and in nnU-Net's naming; of a picture of another size, too."""
    labels = segment(fixed, data / "imagesTs", tmp_path / "out", naming="nnunet", num_workers=0)
    labels.check()
    mirrored = segment(fixed, data / "imagesTs", tmp_path / "tta", tta=True, num_workers=0)
    assert [label.name for label in labels] == ["p_07.png", "p_08.png"]
    for label, same in zip(labels, mirrored, strict=True):
        expected = by_hand(data / "imagesTs" / f"{label.stem}_0000.png")
        np.testing.assert_array_equal(seen_label(label), expected)
        np.testing.assert_array_equal(seen_label(same), expected)
        assert set(np.unique(expected)) == {0, 1, 2}
    wide = Image.open(data / "imagesTs/p_07_0000.png").resize((300, 200), Image.Resampling.NEAREST)
    wide.save(tmp_path / "wide.png")
    (label,) = segment(fixed, tmp_path / "wide.png", tmp_path / "wide", num_workers=0)
    assert seen_label(label).shape == (200, 300)
    assert (seen_label(label) == by_hand(tmp_path / "wide.png")).mean() > 0.98  # but for the outlines


def test_scores_of_regions_without_what_is_ignored(fixed, data, tmp_path):
    run(str(fixed), "train", "evaluate", output_dir=str(tmp_path), num_workers=0)
    scores = json.loads((tmp_path / "summary.json").read_text())["conventions"]["monai"]["classes"]
    for name, values in {"whole": [1, 2], "core": [2]}.items():
        dices = []
        for case in ("p_07", "p_08"):
            truth, label = seen_label(data / f"labelsTs/{case}.png"), by_hand(data / f"imagesTs/{case}_0000.png")
            a, b = np.isin(label, values) & (truth != 3), np.isin(truth, values)
            dices.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert dices == [1.0, 1.0]  # what is ignored was found as a core everywhere
        assert scores[name]["dice"]["mean"] == pytest.approx(np.mean(dices))


def test_big_pictures_are_seen_through_windows(tmp_path):
    """Thin cores keep their pixels; no view is all ignored, and a view shows the class that it was drawn for."""
    rng = np.random.default_rng(0)
    data = write_pictures(tmp_path / "data", REGIONS, cases=4, shape=(300, 420))
    for file in data.glob("labels*/*.png"):
        label = np.zeros((300, 420), np.uint8)
        label[:, 60:330] = 1
        for place in rng.integers(70, 320, 5):
            label[:, place : place + 2] = 2
        picture = np.full((300, 420, 3), 60, np.uint8)
        picture[..., 0] = np.vectorize(RED.get)(label)
        label[:200] = 3  # nobody has looked at two thirds of it
        Image.fromarray(label).save(file)
        Image.fromarray(picture).save(data / file.parent.name.replace("labels", "images") / f"{file.stem}_0000.png")
    made, choices = new_bundle("lines", TEMPLATE, nnunet=data, where=tmp_path, progress=False)
    assert any("windows of 224 pixels" in choice for choice in choices)
    give_thresholds(made, [[100.0, 0, 0], [100.0, 0, 0]], [-70 / 255 * 100, -170 / 255 * 100])
    labels = segment(made, data / "imagesTs", tmp_path / "out", num_workers=0, image_size=[96, 96])
    labels.check()
    for label in labels:
        np.testing.assert_array_equal(seen_label(label), by_hand(data / f"imagesTs/{label.stem[:4]}_0000.png"))
    parser = Bundle(made).parser("train", **FEW, bundle_root=str(made), image_size=[64, 64], split="paper")
    dataset = parser.get_parsed_content("train#dataset")
    sampler = parser.get_parsed_content("train#sampler")
    shown_classes = set()
    for epoch in range(15):
        sampler.set_epoch(epoch)
        for item in sampler:
            label = dataset[item]["label"]
            assert (label != 255).any()
            assert not item[2] or (label == item[2]).any()
            shown_classes.add(item[2])
    assert shown_classes == {0, 1, 2}


def test_quality_is_measured_on_regions(tmp_path):
    """Of pictures as they are the network is right wherever anybody has looked."""
    data = write_pictures(tmp_path / "data", REGIONS, cases=36)
    made = new_bundle("discs", TEMPLATE, nnunet=data, where=tmp_path, progress=False)[0]
    give_thresholds(made, [[100.0, 0, 0], [100.0, 0, 0]], [-70 / 255 * 100, -170 / 255 * 100])
    with np.load(calibrate(made, num_workers=0)) as notes:
        assert notes["sound"].sum() == 6
        assert (notes["dice"][notes["sound"]] == 1).all()
        assert notes["dice"][~notes["sound"]].min() < 0.7


def test_training_draws_no_picture_that_nobody_has_looked_at(made, monkeypatch, tmp_path):
    """Batches hold 255 where nobody has looked, and the number of pictures around a class that the recipe says."""
    parser = Bundle(made).parser("train", **FEW, bundle_root=str(made), output_dir=str(tmp_path))
    parser["cases"] = load_datalist(datalist=made.parents[1] / "dataset.json", split="paper")
    dataset = parser.get_parsed_content("train#dataset")
    assert len(dataset.names) == 7 and "p_00" in dataset.names
    assert [dataset.names[number] for number, _ in dataset.index] == [n for n in dataset.names if n != "p_00"]
    drawn = list(parser.get_parsed_content("train#sampler"))
    assert sum(shown > 0 for _, _, shown in drawn[:4]) == 1  # 0.33 of 4
    values = set()
    for item in drawn:
        values |= set(dataset[item]["label"].unique().tolist())
    assert values == {0, 1, 2, 255}
    assert parser.get_parsed_content("loss").regions == [[1, 2], [2]]


@pytest.mark.slow
def test_folds_are_trained_and_predicted(fixed, tmp_path):
    """The whole way of five-fold validation, with two folds of the network of a few weights."""
    folder = tmp_path / "discs"
    shutil.copytree(fixed, folder)
    left = crossval(folder, folds=2, **FEW, learning_rate=1e-5)
    summary = json.loads((left.report / "summary.json").read_text())
    assert summary["number_of_cases"] == 9
    assert list(summary["conventions"]["monai"]["classes"]) == ["whole", "core"]
    images = {path.stem: path for path in (fixed.parents[1]).glob("images*/*.png")}
    labels = list(left.report.glob("fold*/labels/*_seg.png"))
    assert len(labels) == 9
    assert len(images) == 9


@pytest.mark.parametrize("ignore", [3, 255])
def test_classes_with_ignored_pixels(tmp_path, ignore):
    """Values keep their classes in training, evaluation and labels; black and white with a grey that is ignored."""
    labels = {"labels": {**CLASSES["labels"], "ignore": ignore}}
    data = write_pictures(tmp_path / "data", labels, cases=5)
    if ignore == 255:
        for file in data.glob("labels*/*.png"):
            values = seen_label(file)
            Image.fromarray(np.where(values == 3, 255, values).astype(np.uint8)).save(file)
    made, choices = new_bundle("rims", TEMPLATE, nnunet=data, where=tmp_path, progress=False)
    assert any(choice.startswith("ignore:") for choice in choices)
    cases = load_datalist(datalist=made / "datalist.json", dataset_dir=data)
    assert cases["label_coding"] == cases["label_mapping"] == {0: 0, 1: 1, 2: 2, ignore: 255}
    assert cases["class_names"] == ["rim", "core"]
    steps = [[0.0, 0, 0], [100.0, 0, 0], [300.0, 0, 0]], [0.0, -100 * 70 / 255, -100 * 70 / 255 - 200 * 170 / 255]
    give_thresholds(made, *steps)
    run(str(made), "train", **FEW)
    trained = torch.load(made / "models/model.pt", weights_only=True)
    assert all(bool(torch.isfinite(value).all()) for value in trained.values())
    give_thresholds(made, *steps)
    run(str(made), "train", "evaluate", num_workers=0)
    scores = json.loads((made / "eval/summary.json").read_text())["conventions"]["monai"]["classes"]
    assert scores["rim"]["dice"]["mean"] == scores["core"]["dice"]["mean"] == 1.0


def test_a_published_bundle_has_no_regions(data):
    with pytest.raises(ValueError, match=r"its labels are regions \(whole, core\), .* python -m monai_ext new\.$"):
        load_datalist("kvasir", datalist=data / "dataset.json")


def test_a_published_bundle_ignores_no_voxels(tmp_path):
    data = write_pictures(tmp_path / "data", {"labels": {"background": 0, "polyp": 1, "ignore": 3}}, cases=3)
    refused = r"label value 3 are to be ignored, which this bundle's loss cannot\. .* python -m monai_ext new\.$"
    with pytest.raises(ValueError, match=refused):
        load_datalist("kvasir", datalist=data / "dataset.json")


def test_masks_of_values_that_a_list_names(tmp_path):
    Image.fromarray(np.array([[0, 7, 200]], np.uint8)).save(tmp_path / "mask.png")
    reader = MaskReader({0: 0, 7: 1, 200: 255}, 2)
    assert reader.get_data((tmp_path / "mask.png",))[0].tolist() == [[0, 1, 255]]
    with pytest.raises(ValueError, match=r"^monai_ext: .*mask\.png: label values \[200\], expected only \[0, 7\]"):
        MaskReader({0: 0, 7: 1}, 2).get_data((tmp_path / "mask.png",))
    Image.fromarray(np.array([[0, 7, 200]], np.uint8)).save(tmp_path / "mask.jpg")
    with pytest.raises(ValueError, match="in a JPEG, which changes them"):
        reader.get_data((tmp_path / "mask.jpg",))


def test_several_pictures_of_a_case(tmp_path):
    """As channels they are refused, with what can be done, in nnU-Net's folder, in a list and in two folders."""
    data = write_pictures(tmp_path / "data", CLASSES, cases=5)
    shutil.copy(data / "imagesTr/p_01_0000.png", data / "imagesTr/p_01_0001.png")
    expected = (
        r"^monai_ext: .*p_01 has .*pictures \(p_01_0000\.png, p_01_0001\.png\), expected one.* NIfTI of one slice"
    )
    listed = {"training": [{"image": [f"imagesTr/p_01_000{k}.png" for k in (0, 1)], "label": "labelsTr/p_01.png"}]}
    (data / "list.json").write_text(json.dumps(listed))
    ways = [
        {"nnunet": data},
        {"datalist": data / "list.json"},
        {"images": data / "imagesTr", "labels": data / "labelsTr"},
    ]
    for way in ways:
        with pytest.raises(ValueError, match=expected) as told:
            new_bundle("mine", TEMPLATE, where=tmp_path, progress=False, **way)
        assert len(str(told.value).splitlines()) == 1
