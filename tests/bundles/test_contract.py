# SPDX-License-Identifier: Apache-2.0
"""What MONAI's tools, and the model zoo's checks, ask of every bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from pydoc import locate

import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export, verify_metadata, verify_net_in_out

from monai_ext.bundle import Bundle
from monai_ext.data import DATASETS, listed_class_names
from tests.bundles.runs import BUNDLES, ROOT, config

SCHEMA = ROOT / "tests" / "data" / "meta_schema_20240725.json"
CONFIGS = ("train", "evaluate", "inference")
THREE_D = ("dcaunet_synapse", "unet_dca_synapse", "xattnres_unet_synapse")
# what overlays bring along
OWN_KNOBS = {
    "allow_overlap",
    "as_trained",
    "ckpt_path",
    "convention",
    "finalize",
    "trt_args",
    "tta",
    "mirror_axes",
    "ckpt_paths",
    "patches_per_volume",
    "report_channel",
    "tolerances",
    "foreground_share",
    "tilt",
    "tissue_contrast",
}
# what training and inference each have their own of
NOT_SHARED = {"as_trained", "ckpt_dir", "dataset_dir", "network_def", "network", "num_workers", "initialize", "run"}
NOT_SHARED |= {"device"}  # in inference each process has its own
NOT_SHARED |= {"precision"}  # weights are float32 whatever computed them
every = pytest.mark.parametrize("bundle", BUNDLES)


def read(bundle: str, name: str) -> dict:
    return json.loads((ROOT / "bundles" / bundle / "configs" / f"{name}.json").read_text())


def config_folder(bundle: str) -> Path:
    return ROOT / "bundles" / bundle


def class_names(bundle: str) -> tuple[str, ...]:
    """Of the dataset, or as the list of a bundle for one's own data has them."""
    train = read(bundle, "train")
    if "dataset_name" in train:
        return DATASETS[train["dataset_name"]].class_names
    return tuple(listed_class_names(ROOT / "bundles" / bundle / "datalist.json"))


def report(bundle: str) -> dict:
    handlers = read(bundle, "evaluate")["validate#handlers"]
    (found,) = (handler for handler in handlers if handler["_target_"] == "monai_ext.apps.SegmentationReport")
    return found


@every
def test_files(bundle):
    configs = ("metadata", *CONFIGS, "multi_gpu_train", "multi_gpu_evaluate", "inference_trt", "ensemble_inference")
    for name in ("LICENSE", "configs/logging.conf", "docs/README.md", *(f"configs/{name}.json" for name in configs)):
        assert (ROOT / "bundles" / bundle / name).is_file(), name
    assert not (ROOT / "bundles" / bundle / "scripts").exists()


@every
def test_metadata(bundle, tmp_path):
    schema = shutil.copy(SCHEMA, tmp_path)
    verify_metadata(meta_file=config(bundle, "metadata")[0], filepath=schema)
    metadata = read(bundle, "metadata")
    assert metadata["version"] in metadata["changelog"]
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    names = class_names(bundle)
    assert list(channels.values()) == ["background", *names]
    regions = "regions" in read(bundle, "train")  # which have no channel of the background
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == len(channels) - regions


@every
def test_network_in_and_out(bundle):
    verify_net_in_out(
        "network_def",
        meta_file=config(bundle, "metadata")[0],
        config_file=config(bundle, "inference")[0],
        device="cpu",
    )


@every
def test_train_and_inference_agree(bundle):
    """One network, one deterministic preprocessing: what was trained is what is run."""
    train, inference = read(bundle, "train"), read(bundle, "inference")
    trained = {k: v for k, v in train["network_def"].items() if k != "pretrained"}
    assert trained == {k: v for k, v in inference["network_def"].items() if k != "_requires_"}
    for knob in (train.keys() & inference.keys()) - NOT_SHARED:
        assert train[knob] == inference[knob], knob

    def image_steps(transforms):
        for step in transforms:
            keys = [step["keys"]] if isinstance(step["keys"], str) else step["keys"]
            if "image" in keys:
                # of what is given for each key, that of the image
                each = {k: v[0] for k, v in step.items() if isinstance(v, list) and len(v) == len(keys) > 1}
                # what is done to an image that is strange, not what is done to images
                yield {k: v for k, v in {**step, **each, "keys": "image"}.items() if k != "strict"}

    train_steps = list(image_steps(train["train"]["preprocessing"]["transforms"]))
    assert train_steps == list(image_steps(inference["preprocessing"]["transforms"]))
    validated = train["validate"]["preprocessing"]
    if validated != "@train#preprocessing":
        assert train_steps == list(image_steps(validated["transforms"]))
        # pictures are compared where they were drawn: the label is read and nothing else
        changed = [step["_target_"] for step in validated["transforms"] if "label" in step["keys"]]
        assert changed == ["LoadImaged", "EnsureChannelFirstd"]
    # the options of an annotator stand between the knobs and the inferer
    options = {f"@displayable_configs#{name}": knob for name, knob in inference.get("displayable_configs", {}).items()}
    inferer = {name: options.get(str(value), value) for name, value in inference["inferer"].items()}
    assert train["validate"]["inferer"] == inferer


@every
def test_trains_in_float32_unless_asked(bundle):
    """The published numbers are float32's; and validation is what inference does."""
    train = read(bundle, "train")
    assert train["precision"] == "float32"
    expected = {"_target_": "monai_ext.inferers.TrainingInferer", "precision": "@precision"}
    assert train["train"]["inferer"] == expected
    assert train["train"]["trainer"]["inferer"] == "@train#inferer"
    assert "precision" not in train["validate"]["inferer"]


@every
def test_handlers_and_metrics_agree(bundle):
    train = read(bundle, "train")
    assert list(train["validate"]["key_metric"]) == ["val_mean_dice"]
    order = [handler["_target_"].rpartition(".")[2] for handler in train["train"]["handlers"]]
    # the checkpoint holds what schedule and validation have changed
    assert order[-1] == "LastCheckpoint"
    assert order.index("LrScheduleHandler") < order.index("ValidateEpochs") < order.index("LastCheckpoint")
    names = class_names(bundle)
    for row in report(bundle)["published"]:
        assert row["source"]
        assert set(row.get("dice", {})) <= set(names)
    if "regions" in train:
        assert train["network_def"]["out_channels"] == len(names) == len(train["regions"])
        assert train["num_classes"] == max(map(max, train["regions"])) + 1
    else:
        assert train["num_classes"] == len(names) + 1 == train["network_def"]["out_channels"]


@every
def test_ensembles_mirror_what_training_mirrors(bundle):
    overlay = read(bundle, "ensemble_inference")
    assert overlay == read(BUNDLES[0], "ensemble_inference")
    steps = [read(bundle, "train")["train"]["augmentation"]]
    mirrored = set()
    while steps:
        step = steps.pop()
        steps += step.get("transforms", [])
        if step["_target_"] == "RandFlipd":
            mirrored.add(step["spatial_axis"])
    assert set(overlay["mirror_axes"]) == mirrored


def test_which_bundles_have_3d_overlays():
    found = [name for name in BUNDLES if (ROOT / "bundles" / name / "configs" / "train_3d.json").is_file()]
    assert tuple(found) == THREE_D


@every
def test_overlays_are_one_for_all(bundle):
    """What several GPUs and TensorRT need is the same in all; volumes come in batches of slices, pictures singly."""
    for name in ("multi_gpu_train", "multi_gpu_evaluate"):
        assert read(bundle, name) == read(BUNDLES[0], name)
    (first, *_) = (name for name in BUNDLES if Bundle.find(name).pictures == Bundle(config_folder(bundle)).pictures)
    assert read(bundle, "inference_trt") == read(first, "inference_trt")
    assert read(bundle, "strong") == read(first, "strong")


@pytest.mark.parametrize("bundle", THREE_D)
def test_3d_overlays_agree(bundle):
    """Patches in training, windows in validation and inference: one size, one network; and one overlay for all."""
    train, inference = read(bundle, "train_3d"), read(bundle, "inference_3d")
    assert train["validate#inferer"] == inference["inferer"]
    for key, value in inference.items():
        if key != "inferer":
            assert train[key] == value, key
    crop, pad = train["train#augmentation"]["transforms"][:2]
    assert crop["spatial_size"] == pad["spatial_size"] == inference["inferer"]["roi_size"] == "@image_size"
    own = {key for key in train if key.startswith("network_def#")}
    assert {key: value for key, value in inference.items() if key in own} == {key: train[key] for key in own}
    assert read(bundle, "strong_3d") == read(THREE_D[0], "strong_3d")
    common = read(THREE_D[0], "train_3d")
    assert {key: value for key, value in train.items() if key not in own} == {
        key: value for key, value in common.items() if not key.startswith("network_def#")
    }


def test_the_strong_recipe_is_one_in_2d_and_3d():
    """The same augmentations with the same probabilities, but for a third axis."""

    def steps(name):
        found = []
        for step in read(THREE_D[0], name)["train#augmentation"]["transforms"]:
            in_3d = {"indices_key", "tilt", "sigma_z", "foreground", "upsample_mode"}
            found += [{key: value for key, value in step.items() if key not in in_3d}]
        return [step for step in found if step.get("spatial_axis") != 2]

    assert steps("strong") == steps("strong_3d")
    plane, volume = read(THREE_D[0], "strong"), read(THREE_D[0], "strong_3d")
    for knob in ("rotation", "mirror_axes", "tissue_contrast", "foreground_share", "lr_scheduler"):
        assert plane[knob] == volume[knob]


@every
def test_overlays_change_what_is_there(bundle):
    """A key of an overlay that names nothing in train.json would change nothing, in silence."""
    for base, names in (
        (["train"], ["evaluate", "multi_gpu_train", "multi_gpu_evaluate"]),
        (["inference"], ["inference_trt", "ensemble_inference"]),
        (["train", "evaluate"], ["ensemble_inference"]),
        (["train"], ["train_3d"] if bundle in THREE_D else []),
        (["train"], ["strong"] if bundle in BUNDLES else []),
        (["train", "train_3d"], ["strong_3d"] if bundle in THREE_D else []),
        (["inference"], ["inference_3d"] if bundle in THREE_D else []),
    ):
        for name in names:
            parser = ConfigParser()
            parser.read_config([*config(bundle, *base), *(config(bundle, "evaluate") if "evaluate" in name else [])])
            for key in read(bundle, name):
                # a network's constructor refuses what it does not know
                if key not in OWN_KNOBS and not key.startswith("network_def#"):
                    assert parser[key] is not None, (name, key)


@every
def test_every_target_and_name_exists(bundle):
    import monai_ext

    names = (*CONFIGS, "multi_gpu_train", "multi_gpu_evaluate", "inference_trt", "ensemble_inference")
    names += ("strong",) if bundle in BUNDLES else ()  # a bundle of one's own has it in its train.json
    for name in (*names, "train_3d", "inference_3d", "strong_3d") if bundle in THREE_D else names:
        parser = ConfigParser(read(bundle, name))
        targets = []

        def collect(item, found=targets):
            if isinstance(item, dict):
                if "_target_" in item:
                    found.append(item["_target_"])
                for value in item.values():
                    collect(value, found)
            elif isinstance(item, list):
                for value in item:
                    collect(value, found)

        collect(parser.get())
        assert targets or name in ("multi_gpu_evaluate", "inference_trt")
        for target in targets:
            if target.startswith("monai_ext."):
                package, _, public = target.rpartition(".")
                assert public in locate(package).__all__, target
            elif "." in target:
                assert locate(target) is not None, target
    name = Path(bundle).name
    assert monai_ext.bundle_root(name) == f"bundles/{name}"


@every
def test_exports(bundle, tmp_path):
    """TorchScript and ONNX with MONAI's commands compute what the network computes."""
    torch.manual_seed(0)
    network = ConfigParser(read(bundle, "inference")).get_parsed_content("network_def").eval()
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    for export, file in ((ckpt_export, "model.ts"), (onnx_export, "model.onnx")):
        export(
            "network_def",
            filepath=str(tmp_path / "models" / file),
            ckpt_file=str(tmp_path / "models" / "model.pt"),
            meta_file=config(bundle, "metadata")[0],
            config_file=config(bundle, "inference")[0],
        )
    shape = read(bundle, "metadata")["network_data_format"]["inputs"]["image"]
    x = torch.rand(1, shape["num_channels"], *shape["spatial_shape"])
    with torch.no_grad():
        scripted = torch.jit.load(tmp_path / "models" / "model.ts")(x)
        eager = network(x)
        expected = network.double()(x.double())
    session = onnxruntime.InferenceSession(tmp_path / "models" / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    # float32 in another order may be as far from float64 as PyTorch's own is, and a little more
    allowed = 1e-5 * expected.abs().max() + 5 * (eager - expected).abs().max()
    for result in (scripted, torch.from_numpy(found)):
        assert (result - expected).abs().max() < allowed
    assert allowed < 1e-3 * expected.abs().max()


@every
def test_augmented_slices_have_one_type(bundle):
    """A worker collates a batch into the type of its first slice, and refuses others."""
    parser = ConfigParser(read(bundle, "train"))
    augmentation = parser.get_parsed_content("train#augmentation")
    volumes = not Bundle(ROOT / "bundles" / bundle).pictures
    image, label = torch.rand(1 if volumes else 3, 64, 64), torch.zeros(1, 64, 64)
    found = set()
    for seed in range(12):
        augmentation.set_random_state(seed)
        sample = {"image": image.clone(), "label": label.to(torch.uint8 if volumes else torch.float32)}
        sample = augmentation(sample)
        found.add((sample["image"].dtype, sample["label"].dtype))
    assert len(found) == 1


CHECKS_OF_A_MADE_BUNDLE = (
    test_files,
    test_network_in_and_out,
    test_train_and_inference_agree,
    test_handlers_and_metrics_agree,
    test_overlays_change_what_is_there,
    test_every_target_and_name_exists,
)
