# SPDX-License-Identifier: Apache-2.0
"""What MONAI's tools, and the model zoo's checks, ask of every bundle."""

from __future__ import annotations

import json
import shutil
from pydoc import locate

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out

from monai_ext.data import DATASETS
from tests.bundles.runs import BUNDLES, ROOT, config

SCHEMA = ROOT / "tests" / "data" / "meta_schema_20240725.json"
pytestmark = pytest.mark.parametrize("bundle", BUNDLES)


def read(bundle: str, name: str) -> dict:
    return json.loads((ROOT / "bundles" / bundle / "configs" / f"{name}.json").read_text())


def test_files(bundle):
    for name in ("LICENSE", "configs/metadata.json", "configs/logging.conf", "docs/README.md"):
        assert (ROOT / "bundles" / bundle / name).is_file()
    assert not (ROOT / "bundles" / bundle / "scripts").exists()


def test_metadata(bundle, tmp_path):
    schema = shutil.copy(SCHEMA, tmp_path)
    verify_metadata(meta_file=config(bundle, "metadata")[0], filepath=schema)
    metadata = read(bundle, "metadata")
    assert metadata["version"] in metadata["changelog"]
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    names = DATASETS[read(bundle, "train")["dataset_name"]].class_names
    assert list(channels.values()) == ["background", *names]
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == len(channels)


def test_network_in_and_out(bundle):
    verify_net_in_out(
        "network_def",
        meta_file=config(bundle, "metadata")[0],
        config_file=config(bundle, "inference")[0],
        device="cpu",
    )


def test_train_and_inference_agree(bundle):
    """One network, one deterministic preprocessing: what was trained is what is run."""
    train, inference = read(bundle, "train"), read(bundle, "inference")
    trained = {k: v for k, v in train["network_def"].items() if k != "pretrained"}
    assert trained == inference["network_def"]
    for knob in (
        "image_size",
        "intensity_window",
        "batch_size",
        "amp",
        "ckpt_dir",
        "output_dir",
        "bundle_root",
        "device",
    ):
        assert train.get(knob) == inference.get(knob), knob

    def image_steps(transforms):
        for step in transforms:
            keys = [step["keys"]] if isinstance(step["keys"], str) else step["keys"]
            if "image" in keys:
                yield {**step, "keys": "image"}

    train_steps = list(image_steps(train["train"]["preprocessing"]["transforms"]))
    assert train_steps == list(image_steps(inference["preprocessing"]["transforms"]))
    assert train["validate"]["preprocessing"] == "@train#preprocessing"
    assert train["validate"]["inferer"] == inference["inferer"]


def test_every_target_and_name_exists(bundle):
    import monai_ext

    for name in ("train", "evaluate", "inference"):
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
        assert targets
        for target in targets:
            if target.startswith("monai_ext."):
                package, _, public = target.rpartition(".")
                assert public in locate(package).__all__, target
            elif "." in target:
                assert locate(target) is not None, target
    assert monai_ext.bundle_root(bundle) == f"bundles/{bundle}"


def test_export(bundle, tmp_path):
    network = ConfigParser(read(bundle, "inference")).get_parsed_content("network_def").eval()
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "models" / "model.ts"),
        ckpt_file=str(tmp_path / "models" / "model.pt"),
        meta_file=config(bundle, "metadata")[0],
        config_file=config(bundle, "inference")[0],
    )
    scripted = torch.jit.load(tmp_path / "models" / "model.ts")
    shape = read(bundle, "metadata")["network_data_format"]["inputs"]["image"]
    x = torch.rand(1, shape["num_channels"], *shape["spatial_shape"])
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x), rtol=1e-4, atol=1e-5)
