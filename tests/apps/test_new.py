# SPDX-License-Identifier: Apache-2.0
"""From a folder of images and labels to a bundle that trains, evaluates and keeps the contract."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image

from monai_ext.__main__ import main
from monai_ext.apps.new_bundle import new_bundle, pair_files, writing
from monai_ext.apps.new_bundle.survey import survey
from monai_ext.apps.reproduce import reproduce
from monai_ext.bundle import Bundle
from monai_ext.data import load_datalist, write_phantom
from tests.bundles import test_contract as contract
from tests.bundles.runs import run, same_weights
from tests.data.volumes import RAS, save, volume

CHECKS = (
    contract.test_files,
    contract.test_network_in_and_out,
    contract.test_train_and_inference_agree,
    contract.test_handlers_and_metrics_agree,
    contract.test_overlays_change_what_is_there,
    contract.test_every_target_and_name_exists,
)


def write_scans(folder, count=6, label_values=(0, 2, 7), modality="CT"):
    """Volumes with a block of each label, as (image, label) pairs named img01 and label01."""
    for i in range(count):
        image, _ = volume(i)
        label = np.zeros(image.shape, np.uint8)
        for k, value in enumerate(label_values[1:]):
            part = np.s_[4 + 7 * k : 10 + 7 * k, 4:12, 1:5]
            label[part], image[part] = value, 60 + 90 * k + image[part] // 100
        save(folder / "scans" / f"img{i:02d}.nii.gz", image if modality == "CT" else image - image.min())
        save(folder / "organs" / f"label{i:02d}.nii.gz", label)
    return folder


def as_list(folder):
    """A cohort of FIVES as a list of one's own."""
    cases = load_datalist("fives", folder, split="paper")
    pairs = [{key: case[key] for key in ("image", "label")} for case in cases["training"] + cases["test"]]
    (folder / "mine.json").write_text(json.dumps({"training": pairs}))
    return folder / "mine.json"


def keeps_the_contract(bundle, tmp_path):
    for check in CHECKS:
        check(str(bundle))
    for check in (contract.test_metadata, contract.test_exports):
        (tmp_path / check.__name__).mkdir()
        check(str(bundle), tmp_path / check.__name__)


def test_volumes(tmp_path, monkeypatch):
    write_scans(tmp_path)
    monkeypatch.chdir(tmp_path)
    made, choices = new_bundle("my_task", None, "scans", "organs", class_names=["vessel", "cyst"], progress=False)
    assert str(made) == "bundles/my_task"
    train = contract.read(str(made.resolve()), "train")
    low, high = Bundle(made).default("intensity_window")
    # the blocks are at 50 to 70 and 140 to 160 HU
    assert low < 50 - 40 < 160 + 40 < high
    assert Bundle(made).default("image_size") == [64, 64]
    assert train["network_def"]["out_channels"] == 3
    text = (made / "docs" / "README.md").read_text()
    assert all(" ".join(choice.split()) in " ".join(text.split()) for choice in choices)
    listed = json.loads((made / "datalist.json").read_text())
    assert listed["label_mapping"] == {"0": 0, "2": 1, "7": 2}
    assert {part: len(listed[part]) for part in ("training", "validation", "test")} == {
        "training": 4,
        "validation": 1,
        "test": 1,
    }
    bundle = str(made.resolve())
    keeps_the_contract(bundle, tmp_path)
    small = {"image_size": [32, 32], "batch_size": 4, "num_workers": 0}
    run(bundle, "train", **small, epochs=1, val_interval=1)
    again = reproduce(made / "eval" / "run_training.json", tmp_path / "again")
    assert same_weights(made / "models" / "model.pt", again / "model.pt")
    run(bundle, "train", "evaluate", **small)
    run(bundle, "inference", **small)
    summary = json.loads((made / "eval" / "summary.json").read_text())
    assert summary["class_names"] == ["vessel", "cyst"]
    assert summary["number_of_cases"] == 1
    assert not summary["phantom"]
    (label,) = (made / "eval").glob("*_seg.nii.gz")
    assert nibabel.load(label).shape == (24, 20, 6)


def test_pictures(tmp_path, monkeypatch):
    """A folder of PNG pairs, from the command line."""
    write_phantom("fives", tmp_path / "data", 5)
    cases = load_datalist("fives", tmp_path / "data", split="paper")
    for i, case in enumerate(cases["training"] + cases["test"]):
        for key, folder in (("image", "photos"), ("label", "masks")):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.open(case[key]).resize((80, 60), Image.Resampling.NEAREST).save(
                tmp_path / folder / (f"eye {i}.png" if key == "image" else f"eye {i}_mask.png")
            )
    monkeypatch.chdir(tmp_path)
    arguments = "new --name eyes --bundle qtseg_busi --images photos --labels masks --class_names vessel"
    monkeypatch.setattr("sys.argv", ["monai_ext", *arguments.split()])
    main()
    bundle = str(tmp_path / "bundles" / "eyes")
    assert Bundle(bundle).default("image_size") == 96
    keeps_the_contract(bundle, tmp_path)
    small = {"image_size": 32, "batch_size": 2, "num_workers": 0}
    run(bundle, "train", **small, epochs=1, val_interval=1)
    run(bundle, "train", "evaluate", **small)
    run(bundle, "inference", **small)
    assert json.loads((tmp_path / "bundles/eyes/eval/summary.json").read_text())["class_names"] == ["vessel"]
    (mask,) = (tmp_path / "bundles/eyes/eval").glob("*_seg.png")
    assert Image.open(mask).size == (80, 60)


@pytest.mark.parametrize(
    ("template", "network", "dims", "maps"),
    [
        ("dcaunet_synapse", "QTSeg", 2, 1),
        ("xattnres_emcad_synapse", "basic-unet", 2, 1),
        ("dcaunet_synapse", "emcadnet", 2, 4),
        ("xattnres_unet_synapse", "unet_dca", 3, 1),  # sized by its images; the template's overlay has features
    ],
)
def test_another_network_in_a_bundles_recipe(tmp_path, monkeypatch, template, network, dims, maps):
    write_scans(tmp_path, count=4)
    monkeypatch.chdir(tmp_path)
    scans, organs = tmp_path / "scans", tmp_path / "organs"
    made, _ = new_bundle(
        "other", template, scans, organs, where=tmp_path, progress=False, dims=dims, network=network, memory="1GB"
    )
    bundle, train = str(made), contract.read(str(made), "train")
    built = train["network_def"]["_target_"].rpartition(".")[2]
    assert built.replace("_", "").lower() == network.replace("-", "").replace("_", "").lower()
    assert train["network_def"]["spatial_dims"] == dims
    assert (train["loss"]["_target_"] == "DeepSupervisionLoss") == (maps > 1)
    for check in CHECKS:
        check(bundle)
    small = {"image_size": [32] * dims, "batch_size": 2, "num_workers": 0}
    run(bundle, "train", **small, epochs=1, val_interval=1)
    run(bundle, "inference", **small)
    (label,) = (made / "eval").glob("*_seg.nii.gz")
    assert nibabel.load(label).shape == (24, 20, 6)


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ({}, "DCAUNet"),
        ({"network": "qtseg"}, "QTSeg"),
        ({"recipe": "paper"}, "DCAUNet"),
        ({"bundle": "dcaunet_acdc"}, "DCAUNet"),
        ({"dims": 3, "memory": "2GB"}, "DCAUNet"),
        ({"network": "dcaunet"}, "DCAUNet"),
    ],
)
def test_the_network_of_slices_is_planned_unless_it_is_asked_for(tmp_path, arguments, target):
    write_scans(tmp_path, count=3)
    scans, organs = tmp_path / "scans", tmp_path / "organs"
    made, choices = new_bundle("mine", images=scans, labels=organs, where=tmp_path, progress=False, **arguments)
    for part in ("train", "inference"):
        definition = contract.read(str(made), part)["network_def"]
        assert definition["_target_"] == f"monai_ext.networks.nets.{target}"
    told = [choice for choice in choices if choice.startswith("network: ")]
    assert len(told) == (not arguments or "network" in arguments)


def test_classes_that_lie_anywhere_get_a_narrow_u_net(tmp_path, monkeypatch):
    """Few scans leave it to chance whether that is seen, so it is said here."""
    write_scans(tmp_path, count=3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writing, "mirror_axes", lambda *_, **__: ([0, 1], "said"))
    made, choices = new_bundle("mine", images="scans", labels="organs", progress=False)
    for part in ("train", "inference"):
        definition = contract.read(str(made.resolve()), part)["network_def"]
        assert definition["_target_"] == "monai_ext.networks.nets.UNetDCA"
        assert (definition["features"], definition["img_size"]) == ([16, 32, 64, 128, 256], [64, 64])
    assert any(choice.startswith("network: unet_dca, at half") for choice in choices)
    for check in CHECKS:
        check(str(made.resolve()))


def test_another_network_for_pictures_is_not_frozen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_phantom("fives", tmp_path / "data", 4)
    made, _ = new_bundle(
        "eyes", None, datalist=as_list(tmp_path / "data"), where=tmp_path, progress=False, network="doubleunet_dca"
    )
    train = contract.read(str(made), "train")
    assert "FreezeUntil" not in json.dumps(train)
    assert not {"warm_up", "pretrained"} & train.keys()
    for check in CHECKS:
        check(str(made))


def test_a_network_that_nobody_knows(tmp_path):
    write_scans(tmp_path, count=3)
    told = r"^monai_ext: --network unet: expected one of dcaunet, .*basic_unet.*\.$"
    with pytest.raises(ValueError, match=told):
        new_bundle("b", None, tmp_path / "scans", tmp_path / "organs", where=tmp_path, network="unet")
    assert not (tmp_path / "bundles").exists()


def test_mr_is_scaled_by_percentiles_and_ct_by_a_window(tmp_path):
    for modality, template in (("MR", "dcaunet_synapse"), ("CT", "dcaunet_acdc")):
        write_scans(tmp_path / modality, modality=modality)
        made, _ = new_bundle(
            modality.lower(),
            template,
            tmp_path / modality / "scans",
            tmp_path / modality / "organs",
            where=tmp_path,
            progress=False,
        )
        steps = contract.read(str(made), "train")["train"]["preprocessing"]["transforms"]
        kinds = [step["_target_"].rpartition(".")[2] for step in steps]
        assert ("ScaleIntensityRanged" in kinds, "ScaleIntensityRangePercentilesd" in kinds) == (
            modality == "CT",
            modality == "MR",
        )
        assert [step["modality"] for step in steps if step["_target_"].endswith("CheckVolumed")] == [modality]
        contract.test_train_and_inference_agree(str(made))


def test_a_decathlon_list_keeps_its_names_and_its_test_cases(tmp_path):
    write_scans(tmp_path, label_values=(0, 1, 2))
    pairs = [{"image": f"scans/img{i:02d}.nii.gz", "label": f"organs/label{i:02d}.nii.gz"} for i in range(6)]
    content = {"labels": {"0": "background", "1": "vessel", "2": "cyst"}, "training": pairs[:4], "test": pairs[4:]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    made, _ = new_bundle("listed", datalist=tmp_path / "dataset.json", where=tmp_path, progress=False)
    listed = json.loads((made / "datalist.json").read_text())
    assert listed["labels"] == content["labels"]
    assert [case["case_id"] for case in listed["test"]] == ["04", "05"]
    assert "label_mapping" not in listed


def listed_scans(folder, count=8, parts=(4, 2, 2), values=(0, 1, 2), **content):
    """A list of written scans: the first ``parts[0]`` train, and so on."""
    write_scans(folder, count, values)
    pairs = [{"image": f"scans/img{i:02d}.nii.gz", "label": f"organs/label{i:02d}.nii.gz"} for i in range(count)]
    ends = np.cumsum((0, *parts))
    named = zip(("training", "validation", "test"), ends, ends[1:])
    file = folder / "list.json"
    file.write_text(json.dumps({**{part: pairs[a:b] for part, a, b in named}, **content}))
    return file


def parts_of(made):
    listed = json.loads((made / "datalist.json").read_text())
    return {part: [case["case_id"] for case in listed[part]] for part in ("training", "validation", "test")}


def test_a_list_keeps_its_parts(tmp_path):
    file = listed_scans(tmp_path)
    made, choices = new_bundle("v", datalist=file, where=tmp_path, progress=False)
    assert parts_of(made) == {"training": ["00", "01", "02", "03"], "validation": ["04", "05"], "test": ["06", "07"]}
    assert any("validation and test as listed" in choice for choice in choices)
    # what is trained on is what the list says
    cases = load_datalist(datalist=made / "datalist.json", dataset_dir=tmp_path)
    assert [case["image"] for case in cases["validation"]] == [
        str(tmp_path / f"scans/img{i:02d}.nii.gz") for i in (4, 5)
    ]
    content = json.loads(file.read_text())
    content["test"] = ["scans/img06.nii.gz"]
    file.write_text(json.dumps(content))
    made, choices = new_bundle("w", datalist=file, where=tmp_path, progress=False)
    assert parts_of(made)["validation"] == ["04", "05"]
    assert len(parts_of(made)["test"]) == 1 and set(parts_of(made)["test"]) < {"00", "01", "02", "03"}
    assert any("1 test case has no label" in choice for choice in choices)
    content["training"][1].pop("label")
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"training\[1\] is .*expected"):
        new_bundle("x", datalist=file, where=tmp_path, progress=False)


def test_a_list_keeps_its_folds(tmp_path):
    file = listed_scans(tmp_path, 6, (6, 0, 0))
    content = json.loads(file.read_text())
    for i, case in enumerate(content["training"]):
        case["fold"] = i % 3
    file.write_text(json.dumps(content))
    made, _ = new_bundle("f", datalist=file, where=tmp_path, progress=False)
    for fold in range(3):
        cases = load_datalist(datalist=made / "datalist.json", dataset_dir=tmp_path, fold=fold)
        assert sorted(case["case_id"] for case in cases["test"]) == [f"{fold:02d}", f"{fold + 3:02d}"]


def test_nnunets_own_list(tmp_path, monkeypatch):
    write_scans(tmp_path, label_values=(0, 1, 2))
    for i in range(6):
        for folder, name, end in (("imagesTr", "scans/img", "_0000"), ("labelsTr", "organs/label", "")):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / f"{name}{i:02d}.nii.gz").rename(tmp_path / folder / f"liver_{i:03d}{end}.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "cyst": 2}, "numTraining": 6}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "file_ending": ".nii.gz"}))
    made, _ = new_bundle("n", datalist=tmp_path / "dataset.json", where=tmp_path, progress=False)
    assert sorted(case for part in parts_of(made).values() for case in part) == [f"liver_{i:03d}" for i in range(6)]
    listed = json.loads((made / "datalist.json").read_text())
    assert listed["labels"] == {"0": "background", "1": "liver", "2": "cyst"}
    case = next(case for case in listed["training"] if case["case_id"] != "liver_000")
    assert case["image"] == f"imagesTr/{case['case_id']}_0000.nii.gz"
    # the same list without a new bundle
    assert len(load_datalist(datalist=tmp_path / "dataset.json")["training"]) == 5
    content["labels"]["ignore"] = 3
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "file_ending": ".nii.gz"}))
    # voxels that nobody has looked at are no class
    case = tmp_path / "labelsTr/liver_000.nii.gz"
    label = nibabel.load(case)
    ignored = np.asarray(label.dataobj).copy()
    ignored[..., 0] = 3
    nibabel.save(nibabel.Nifti1Image(ignored, label.affine), case)
    made, choices = new_bundle("o", nnunet=tmp_path, where=tmp_path, progress=False)
    listed = json.loads((made / "datalist.json").read_text())
    assert listed["label_mapping"] == {"0": 0, "1": 1, "2": 2, "3": 255}
    assert listed["labels"] == {"0": "background", "1": "liver", "2": "cyst"}
    train = contract.read(str(made), "train")
    assert train["network_def"]["out_channels"] == train["num_classes"] == 3
    assert train["loss"]["_target_"] == "monai_ext.losses.LabelLoss"
    assert any(choice.startswith("ignore: voxels of label value 3") for choice in choices)
    monkeypatch.chdir(tmp_path)
    small = {"image_size": [32, 32], "batch_size": 4, "num_workers": 0}
    run(str(made), "train", **small, epochs=1, val_interval=1)
    run(str(made), "train", "evaluate", **small)


def test_a_list_keeps_its_mapping_and_its_modality(tmp_path):
    mapping = {"0": 0, "2": 1, "5": 2, "7": 2}
    names = {"0": "background", "1": "vessel", "2": "cyst"}
    file = listed_scans(tmp_path, values=(0, 2, 7), label_mapping=mapping, labels=names, modality={"0": "MRI"})
    made, choices = new_bundle("m", datalist=file, where=tmp_path, progress=False)
    listed = json.loads((made / "datalist.json").read_text())
    assert (listed["label_mapping"], listed["labels"]) == (mapping, names)
    assert any("cyst (label values 5, 7, in 4 training, 2 validation, 2 test cases)" in choice for choice in choices)
    assert contract.read(str(made), "train")["network_def"]["out_channels"] == 3
    # the values are CT's: the list is not believed, which is said, and no window is invented
    assert any(choice.startswith("modality: the list says MR") for choice in choices)
    assert "intensity_window" not in contract.read(str(made), "train")
    content = json.loads(file.read_text())
    del content["label_mapping"]["7"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="label value 7 is in the files, but not in its label_mapping"):
        new_bundle("q", datalist=file, where=tmp_path, progress=False)
    del content["label_mapping"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="label value 7 is in the files, but its labels do not name it"):
        new_bundle("q", datalist=file, where=tmp_path, progress=False)


def test_a_class_that_only_test_cases_have(tmp_path):
    file = listed_scans(tmp_path)
    for i in range(6):
        path = tmp_path / "organs" / f"label{i:02d}.nii.gz"
        label = np.asarray(nibabel.load(path).dataobj)
        save(path, np.where(label == 2, 0, label).astype(np.uint8))
    _, choices = new_bundle("t", datalist=file, where=tmp_path, class_names="vessel, cyst", progress=False)
    text = " ".join(choices)
    assert "cyst (label value 2, in 0 training, 0 validation, 2 test cases)" in text
    assert "cyst is in no training case and cannot be learnt" in text


MARKUP = ["=cmd()", "<img src=x>", "*cyst* [a](b)"]


def test_names_are_data(tmp_path, monkeypatch):
    """No name reaches a config's parser: evaluation reads them from the list."""
    monkeypatch.chdir(tmp_path)
    names = {str(i): name for i, name in enumerate(["background", *MARKUP])}
    file = listed_scans(tmp_path, values=(0, 1, 2, 3), labels=names)
    made, _ = new_bundle("d", datalist=file, where=tmp_path, progress=False)
    for config in ("train", "evaluate", "inference"):
        text = (made / "configs" / f"{config}.json").read_text()
        assert not [name for name in MARKUP if name in text]
    readme = (made / "docs" / "README.md").read_text()
    assert "\\<img src=x\\>" in readme and "\\*cyst\\* \\[a\\](b)" in readme
    assert (
        contract.read(str(made), "metadata")["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] == MARKUP[1]
    )
    # even what nobody may write there is a text when it is read
    listed = json.loads((made / "datalist.json").read_text())
    listed["labels"]["1"] = "$__import__('pathlib').Path('run').touch()"
    (made / "datalist.json").write_text(json.dumps(listed))
    parser = ConfigParser()
    parser.read_config([str(made / "configs" / f"{name}.json") for name in ("train", "evaluate")])
    parser["bundle_root"] = str(made)
    parser["output_dir"] = str(tmp_path / "out")
    report = parser.get_parsed_content("validate#handlers#2")
    assert report.class_names == (listed["labels"]["1"], *MARKUP[1:])
    assert not (tmp_path / "run").exists()
    for name in ("$1+1", "@network", "%train"):
        with pytest.raises(ValueError, match="class name .*configs take for code"):
            new_bundle("e", datalist=file, where=tmp_path, class_names=[name, "b", "c"], progress=False)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a", "a"),
        ("img0001", "label0001"),
        ("case_0000", "case"),
        ("x", "x_seg"),
        ("Image-7", "Mask-7"),
        ("p.1", "p.1_gt"),
    ],
)
def test_names_that_go_together(tmp_path, image, label):
    for folder, name in (("i", image), ("l", label)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.nii.gz").touch()
    (pair,) = pair_files(tmp_path / "i", tmp_path / "l").values()
    assert pair == {"image": str(tmp_path / f"i/{image}.nii.gz"), "label": str(tmp_path / f"l/{label}.nii.gz")}


def without_a_label(folder):
    (folder / "organs" / "label03.nii.gz").unlink()


def two_channels(folder):
    for i in range(6):
        (folder / "scans" / f"img{i:02d}.nii.gz").rename(folder / "scans" / f"case{i}_0000.nii.gz")
        (folder / "organs" / f"label{i:02d}.nii.gz").rename(folder / "organs" / f"case{i}.nii.gz")
    save(folder / "scans" / "case0_0001.nii.gz", volume(0)[0])


def fractions(folder):
    save(folder / "organs" / "label03.nii.gz", np.full((24, 20, 6), 0.5, np.float32))


def other_grid(folder):
    save(folder / "organs" / "label03.nii.gz", np.zeros((24, 20, 6), np.uint8), RAS * 2)


def nothing_labelled(folder):
    for path in (folder / "organs").iterdir():
        save(path, np.zeros((24, 20, 6), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (None, {"name": "My Task"}, "expected small letters"),
        (None, {"name": "deepedit_one"}, "none of the words deepedit"),
        (None, {"bundle": "qtseg_busi"}, "qtseg_busi is for 2D pictures, the data are volumes"),
        (None, {"class_names": ["one"]}, r"1 \(one\), expected 2 different ones, for label values 2, 7"),
        (None, {"test_share": 1.5}, "test_share must be between 0 and 1"),
        (without_a_label, {}, r"img03.nii.gz: no file of that name in .*organs"),
        (two_channels, {}, r"case1_0000.nii.gz: 1 channel, expected 2 .*channel 1 missing"),
        (fractions, {}, r"label03.nii.gz: label values 0.5 \(\d+ of \d+\), expected whole numbers"),
        (other_grid, {}, r"label03.nii.gz: its affine places voxels"),
        (nothing_labelled, {}, "every label is empty"),
    ],
)
def test_bad_data_makes_no_bundle(tmp_path, spoil, arguments, message):
    write_scans(tmp_path)
    if spoil:
        spoil(tmp_path)
    given = {"name": "mine", "images": tmp_path / "scans", "labels": tmp_path / "organs", **arguments}
    with pytest.raises(ValueError, match=message):
        new_bundle(**given, where=tmp_path, progress=False)
    assert not list((tmp_path / "bundles").glob("*"))


def test_labels_of_nearly_whole_numbers_and_hidden_files(tmp_path):
    """Saved as real numbers by a tool that scales them; and the folder was on a Mac."""
    write_scans(tmp_path)
    label = nibabel.load(tmp_path / "organs/label03.nii.gz")
    values = np.asarray(label.dataobj).astype(np.float64)
    nibabel.save(nibabel.Nifti1Image(values * 0.9999999, label.affine), tmp_path / "organs/label03.nii.gz")
    for folder, name in (("scans", "img03"), ("organs", "label03")):
        (tmp_path / folder / f"._{name}.nii.gz").write_bytes(b"\0\5\x16\7" + bytes(300))
        (tmp_path / folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    pairs = pair_files(tmp_path / "scans", tmp_path / "organs")
    assert len(pairs) == 6
    found = survey(pairs, progress=False)
    assert found.values.keys() == set(np.unique(values).astype(int))
    assert found.values[0] == 6


def test_a_bundle_is_not_overwritten(tmp_path):
    (tmp_path / "bundles" / "mine").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="is there already"):
        new_bundle("mine", images="a", labels="b", where=tmp_path)


def test_mask_values_in_between(tmp_path):
    for i in range(4):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = np.tile(np.repeat(np.uint8([0, 100, 200]), 30), (90, 1))
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    with pytest.raises(ValueError, match="mask values 0, 100, 200; expected black and white, or classes"):
        new_bundle("mine", images=tmp_path / "a", labels=tmp_path / "b", where=tmp_path, progress=False)
