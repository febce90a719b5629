# SPDX-License-Identifier: Apache-2.0
"""Images of several channels, regions and ignored voxels, from nnU-Net's folder to labels on the source's grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser

from monai_ext.apps.data_check import check_dataset
from monai_ext.apps.explain import explain
from monai_ext.apps.new_bundle import new_bundle
from monai_ext.apps.reproduce import reproduce
from monai_ext.apps.segmentation import segment
from monai_ext.bundle import Bundle
from monai_ext.data import load_datalist
from monai_ext.data.files.affines import to_itk
from monai_ext.phantoms import BRAIN_CHANNELS
from tests.apps.thresholds import LOOKED_AT, THRESHOLDS, give_thresholds
from tests.bundles import test_contract as contract
from tests.bundles.runs import run, same_weights


@pytest.fixture(scope="module")
def made(brain, tmp_path_factory) -> Path:
    return new_bundle("brain", nnunet=brain, where=tmp_path_factory.mktemp("made"), progress=False)[0].resolve()


@pytest.fixture(scope="module")
def fixed(made) -> Path:
    """The bundle with a network that compares channel 2 with three thresholds, one for each region."""
    folder = made.with_name("brain_fixed")
    shutil.copytree(made, folder)
    weights = give_thresholds(folder)
    weights["conv.weight"] = weights["conv.weight"][..., None]
    torch.save(weights, folder / "models" / "model_3d.pt")
    return folder


def files(brain: Path, case: int) -> list[Path]:
    part = "Ts" if case == 5 else "Tr"
    return [brain / f"images{part}" / f"brain_{case:03d}_{k:04d}.nii.gz" for k in range(4)]


def expected(channel: Path) -> np.ndarray:
    """By hand: percentiles of what is not 0, and how many thresholds a voxel is above."""
    values = np.asarray(nibabel.load(channel).dataobj).astype(np.float32)
    low, high = np.percentile(values[values != 0], (0.5, 99.5))
    scaled = np.clip((values - low) / (high - low), 0, 1)
    return sum((scaled > threshold).astype(np.uint8) for threshold in THRESHOLDS)


def check_label(label: Path, brain: Path, case: int) -> None:
    found = nibabel.load(label)
    source = nibabel.load(files(brain, case)[0])
    np.testing.assert_allclose(found.affine, source.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected(files(brain, case)[LOOKED_AT]))


@pytest.mark.parametrize("way", ["folder", "tta"])
def test_a_folder_in_nnunets_naming(fixed, brain, tmp_path, way):
    """Axial, sagittal and oblique volumes, whatever the order in which their files were written."""
    folder = tmp_path / "images"
    folder.mkdir()
    for case in (3, 2, 1) if way == "folder" else (3,):
        for k in (2, 0, 3, 1):
            shutil.copy(files(brain, case)[k], folder)
    labels = segment(fixed, folder, tmp_path / "out", tta=way == "tta", num_workers=0)
    labels.check()
    assert [label.name for label in labels] == [
        f"brain_{c:03d}_seg.nii.gz" for c in ((1, 2, 3) if len(labels) > 1 else (3,))
    ]
    for label in labels:
        check_label(label, brain, int(label.name[6:9]))
    assert not labels.skipped


def test_one_file_and_files_between_commas(fixed, brain, tmp_path):
    """One of a case's files, its files in any order, a NIfTI of four dimensions, an NRRD with vectors: one label."""
    case = files(brain, 2)
    images = [nibabel.load(file) for file in case]
    stacked = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
    nibabel.save(nibabel.Nifti1Image(stacked, images[0].affine), tmp_path / "four.nii.gz")
    channels = [to_itk(stacked[..., k], images[0].affine) for k in range(4)]
    sitk.WriteImage(sitk.Compose(channels), str(tmp_path / "vector.nrrd"))
    for k in range(4):
        shutil.copy(case[k], tmp_path / f"{'dbca'[k]}.nii.gz")  # names that say nothing: their order does
    ways = {
        "one": str(case[1]),
        "numbered": ",".join(str(case[k]) for k in (3, 1, 0, 2)),
        "named": ",".join(str(tmp_path / f"{name}.nii.gz") for name in "dbca"),
        "four": tmp_path / "four.nii.gz",
        "vector": tmp_path / "vector.nrrd",
    }
    for name, given in ways.items():
        (label,) = segment(fixed, given, tmp_path / "out" / name, num_workers=0)
        check_label(label, brain, 2)
    assert label.name == "vector_seg.nii.gz"


def test_the_config_itself_and_its_evaluation(fixed, brain, tmp_path):
    """``monai.bundle run`` of inference and of evaluation see the same channel, and score regions by hand."""
    run(str(fixed), "inference", dataset_dir=str(brain / "imagesTs"), output_dir=str(tmp_path), num_workers=0)
    check_label(tmp_path / "brain_005_seg.nii.gz", brain, 5)
    three_d = {"ckpt_path": str(fixed / "models" / "model_3d.pt"), "output_dir": str(tmp_path / "3d")}
    run(
        str(fixed),
        *("inference", "inference_3d"),
        **three_d,
        dataset_dir=str(brain / "imagesTs"),
        image_size=[16, 16, 8],
        num_workers=0,
    )
    check_label(tmp_path / "3d" / "brain_005_seg.nii.gz", brain, 5)
    run(str(fixed), "train", "evaluate", output_dir=str(tmp_path), num_workers=0)
    summary = json.loads((tmp_path / "summary.json").read_text())
    truth = np.asarray(nibabel.load(brain / "labelsTs/brain_005.nii.gz").dataobj)
    label = expected(files(brain, 5)[LOOKED_AT])
    for name, values in {"whole tumour": [1, 2, 3], "tumour core": [2, 3], "enhancing tumour": [3]}.items():
        a, b = np.isin(label, values), np.isin(truth, values)
        dice = summary["conventions"]["monai"]["classes"][name]["dice"]["mean"]
        assert dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-9)


def test_a_case_without_a_channel_ends_alone(fixed, brain, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for case in (1, 2, 4):
        for file in files(brain, case):
            shutil.copy(file, folder)
    (folder / "brain_001_0001.nii.gz").unlink()
    shutil.copy(files(brain, 4)[0], folder / "brain_004_0004.nii.gz")
    labels = segment(fixed, folder, tmp_path / "out", num_workers=0)
    assert [label.name for label in labels] == ["brain_002_seg.nii.gz"]
    check_label(labels[0], brain, 2)
    reasons = " ".join(reason for _, reason in labels.failed)
    assert "0001 (T1w) missing" in reasons
    assert "0004 too many" in reasons


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"b\.nii\.gz: .* voxels, but .*_0000\.nii\.gz has .*one grid"),
        ("place", r"b\.nii\.gz: its affine places voxels up to 7 mm away"),
        ("series", r"is a series of 4 volumes in time \(a step of 2, by its header\), expected channels"),
        ("many", r"6 channels, expected 4 .*2 too many \(is it a time series\?\)"),
        ("few", r"1 channel, expected 4 .*FLAIR, T1w, T2w missing"),
    ],
)
def test_what_is_no_image_of_these_channels(fixed, brain, tmp_path, change, message):
    case = files(brain, 1)
    first = nibabel.load(case[0])
    array, affine = np.asarray(first.dataobj), first.affine.copy()
    given: str | Path = tmp_path / "b.nii.gz"
    if change in ("shape", "place"):
        affine[0, 3] += 7 * (change == "place")
        nibabel.save(nibabel.Nifti1Image(array[:-1] if change == "shape" else array, affine), given)
        given = ",".join(map(str, [case[0], case[1], given, case[3]]))
    elif change == "few":
        given = tmp_path / "x_0002.nii.gz"
        nibabel.save(first, given)
    else:
        image = nibabel.Nifti1Image(np.stack([array] * (6 if change == "many" else 4), axis=-1), affine)
        if change == "series":
            image.header.set_xyzt_units("mm", "sec")
            image.header["pixdim"][4] = 2
        nibabel.save(image, given)
    with pytest.raises(ValueError, match=message) as told:
        segment(fixed, given, tmp_path / "out", num_workers=0).check()
    assert len(str(told.value).splitlines()) == 1
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_the_bundle_that_new_makes(made, brain, tmp_path, monkeypatch):
    """Names, channels and regions are where they belong, and training, evaluation and export work with them."""
    monkeypatch.chdir(made.parents[1])
    bundle = Bundle(made)
    assert bundle.channel_names == BRAIN_CHANNELS
    assert bundle.class_names == ("whole tumour", "tumour core", "enhancing tumour")
    train = bundle.config("train")
    assert train["network_def"]["in_channels"] == 4
    assert train["network_def"]["out_channels"] == 3
    assert (train["regions"], train["region_order"]) == ([[1, 2, 3], [2, 3], [3]], [1, 2, 3])
    for check in contract.CHECKS_OF_A_MADE_BUNDLE:
        check(str(made))
    contract.test_metadata(str(made), tmp_path)
    contract.test_exports(str(made), tmp_path)
    small = {"image_size": [64, 64], "batch_size": 4, "num_workers": 0}
    run(str(made), "train", **small, epochs=1, val_interval=1)
    again = reproduce(made / "eval" / "run_training.json", tmp_path / "again")
    assert same_weights(made / "models" / "model.pt", again / "model.pt")
    run(str(made), "train", "evaluate", **small, report_channel=3)
    text = (made / "eval" / "report.html").read_text()
    assert "tumour core" in text


def test_the_bundles_own_network_by_its_name_changes_nothing(brain, tmp_path):
    """It gives several maps in training, which the loss of regions takes as they are."""
    parts = []
    for name, network in (("plain", None), ("named", "xattnres_emcad")):
        made, _ = new_bundle(
            name, "xattnres_emcad_synapse", nnunet=brain, where=tmp_path, progress=False, network=network
        )
        train = Bundle(made).config("train")
        parts.append((train["network_def"], train["loss"]))
    assert parts[0] == parts[1]


def test_what_a_network_of_several_channels_looked_at(brain, tmp_path):
    made, _ = new_bundle("brain", nnunet=brain, where=tmp_path, progress=False, network="dcaunet")
    (made / "models").mkdir()
    torch.save(Bundle(made).parser().get_parsed_content("network_def").state_dict(), made / "models" / "model.pt")
    # slices of 20 pixels at the planned spacing: in the middle of zeros, as inference has them
    figure = explain(made, files(brain, 5)[2], tmp_path / "figure.png", image_size=[64, 64])
    assert figure.is_file()


def test_ignored_voxels_are_no_part_of_scores(fixed, brain, tmp_path):
    """What is predicted where nobody has looked changes nothing."""
    summaries = []
    datalist = json.loads((fixed / "datalist.json").read_text())
    base = Path(json.loads((fixed / "configs" / "train.json").read_text())["dataset_dir"])
    case = next(case for part in ("training", "validation") for case in datalist[part] if "003" in case["case_id"])
    source = nibabel.load(base / case["label"])
    label = np.asarray(source.dataobj)
    assert (label == 4).any()
    rng = np.random.default_rng(0)
    images = []
    for k, changed in enumerate((False, True)):
        folder = tmp_path / str(k)
        folder.mkdir()
        for name in case["image"]:
            image = nibabel.load(base / name)
            array = np.asarray(image.dataobj).copy()
            if changed:  # to what is there already, so that percentiles stay as they are
                array[label == 4] = rng.permutation(array[label == 4])
            images.append(array)
            nibabel.save(nibabel.Nifti1Image(array, image.affine), folder / Path(name).name)
        listed = {key: datalist[key] for key in ("labels", "regions_class_order", "channel_names")}
        names = [str(folder / Path(name).name) for name in case["image"]]
        entry = {"image": names, "label": str(base / case["label"]), "case_id": "a"}
        (folder / "list.json").write_text(
            json.dumps({**listed, "training": [{**entry, "case_id": "b"}], "test": [entry]})
        )
        output = {"output_dir": str(folder / "eval"), "split": "paper", "allow_overlap": True, "num_workers": 0}
        run(str(fixed), "train", "evaluate", datalist=str(folder / "list.json"), **output)
        summaries.append(json.loads((folder / "eval" / "summary.json").read_text())["conventions"])
    assert not np.array_equal(images[LOOKED_AT], images[4 + LOOKED_AT])
    assert summaries[0] == summaries[1]


def test_datasets_check_counts_regions_and_names_what_is_wrong(brain, tmp_path):
    found = check_dataset("synapse", datalist=str(brain / "dataset.json"), progress=False)
    assert found.errors == []
    assert found.class_names == ("whole tumour", "tumour core", "enhancing tumour")
    assert found.with_class[0] == 5
    folder = tmp_path / "copy"
    shutil.copytree(brain, folder)
    image = nibabel.load(folder / "imagesTr/brain_002_0003.nii.gz")
    array = np.full(image.shape, 7, np.int16)
    nibabel.save(nibabel.Nifti1Image(array, image.affine), folder / "imagesTr/brain_002_0003.nii.gz")
    found = check_dataset("synapse", datalist=str(folder / "dataset.json"), progress=False)
    assert len(found.errors) == 1
    assert "brain_002_0000.nii.gz: T2w: every value is 7" in found.errors[0]


def test_a_published_bundle_takes_one_channel(brain):
    with pytest.raises(ValueError, match=r"its images have 4 channels \(FLAIR.*takes one.*monai_ext new"):
        load_datalist("synapse", datalist=brain / "dataset.json")


def test_folders_of_channels_without_a_list(brain, tmp_path):
    """``--images`` and ``--labels`` with nnU-Net's numbers; CT by a window, the other channel by its percentiles."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        label = np.zeros((24, 20, 6), np.uint8)
        label[6:14, 5:12, 1:5] = 1
        ct = np.where(label, 60, rng.integers(-1000, 200, label.shape)).astype(np.int16)
        for k, array in enumerate((ct, rng.random(label.shape).astype(np.float32))):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2, 5, 1])), tmp_path / f"images/c{i}_{k:04d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, np.diag([2.0, 2, 5, 1])), tmp_path / f"labels/c{i}.nii.gz")
    made, choices = new_bundle(
        "two",
        None,
        tmp_path / "images",
        tmp_path / "labels",
        where=tmp_path,
        progress=False,
        channel_names="CT,PET",
        class_names="lesion",
    )
    steps = ConfigParser(Bundle(made).config("inference")).get()["preprocessing"]["transforms"]
    (windows,) = (step["windows"] for step in steps if "windows" in step)
    assert windows[0][0] < 60 < windows[0][1]
    assert windows[1] is None
    assert any(choice.startswith("channels: 2") for choice in choices)
    contract.test_train_and_inference_agree(str(made.resolve()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: shutil.rmtree(d / "labelsTr"), r"labelsTr: there is no label in it, expected case\.nii\.gz"),
        (
            lambda d: [f.rename(f.with_name(f.name.replace(".nii.gz", ".nrrd"))) for f in (d / "labelsTr").glob("*")],
            r"labelsTr: its labels have another ending \(brain_001\.nrrd\)",
        ),
        (lambda d: (d / "imagesTr/brain_002_0001.nii.gz").unlink(), r"case brain_002: .*0001 \(T1w\) missing"),
        (
            lambda d: (d / "imagesTr/brain_002_0003.nii.gz").rename(d / "imagesTr/brain_002_0007.nii.gz"),
            r"case brain_002: .*0003 \(T2w\) missing and 0007 too many",
        ),
        (lambda d: (d / "dataset.json").unlink(), r"--nnunet .*: no dataset\.json in it"),
        (lambda d: shutil.rmtree(d), r"--nnunet .*: no such folder"),
    ],
)
def test_a_folder_that_is_not_whole(brain, tmp_path, change, message):
    folder = tmp_path / "copy"
    shutil.copytree(brain, folder)
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as told:
        new_bundle("mine", nnunet=folder, where=tmp_path, progress=False)
    assert len(str(told.value).splitlines()) == 1
    assert not (tmp_path / "bundles").exists()
