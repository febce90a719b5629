# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_net_in_out

from monai_ext.bundle import (
    Bundle,
    bundle_root,
    collection,
    find_bundle,
    flag,
    folder_for,
    known_bundles,
    literal,
    stamp,
    trained_with,
)
from monai_ext.networks import load_weights

ROOT = Path(__file__).resolve().parents[1]


def test_bundles_are_found_by_name_and_by_folder(tmp_path, monkeypatch):
    assert find_bundle("qtseg_busi") == known_bundles()["qtseg_busi"]
    folder = tmp_path / "bundles" / "mine" / "configs"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    assert find_bundle(folder.parent) == folder.parent
    monkeypatch.chdir(tmp_path)
    assert "mine" in known_bundles()
    with pytest.raises(FileNotFoundError, match="Did you mean 'qtseg_busi'"):
        find_bundle("qtseg_bus")


def test_switches_as_command_lines_give_them():
    assert [flag(value) for value in (True, "true", "True", 1, "1", "yes")] == [True] * 6
    assert [flag(value) for value in (False, "false", "False", 0, "0", "no", None)] == [False] * 7
    with pytest.raises(ValueError, match="'maybe': expected true or false"):
        flag("maybe")


def test_what_a_bundle_says_of_itself():
    known = Bundle.known()
    assert len(known) == 9
    ct, pictures = known["dcaunet_synapse"], known["qtseg_busi"]
    assert (ct.modality, ct.pictures, ct.in_channels, len(ct.class_names)) == ("CT", False, 1, 8)
    assert ct.channel_def[0] == "background"
    assert ct.class_names[5] == ct.channel_def[6] == "pancreas"
    assert (pictures.pictures, pictures.in_channels) == (True, 3)
    assert sum(bundle.pictures for bundle in known.values()) == 4
    assert ct.default("image_size") == [224, 224]
    assert ct.mixed_precision("cpu") is False
    with pytest.raises(ValueError, match="no knob 'imagesize'. Did you mean 'image_size'"):
        ct.workflow(imagesize=3)
    with pytest.raises(FileNotFoundError, match=r"configs/nothing\.json: no such file"):
        ct.config("nothing")


def test_importing_costs_nothing():
    code = "import monai_ext.bundle, sys; print({'torch', 'monai', 'numpy'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "text", ["$1+1", "@device", "a@b", "%w.pt", "run#1", "it's $ \\@#'\"", "$import os", "ä@ö", "plain", "a::b"]
)
def test_a_text_stays_that_text(text):
    parser = ConfigParser(
        {"device": "gpu", "x": literal({"k": [text], "t": text}), "whole": "@x", "more": "$@x#t + '!'"}
    )
    assert parser.get_parsed_content("whole") == {"k": [text], "t": text}
    assert parser.get_parsed_content("more") == f"{text}!"
    run = Bundle.find("qtseg_busi").workflow(output_dir=text, device="cpu")
    run.parser.parse()
    assert run.parser.get_parsed_content("output_dir") == text


def copied(place: Path, name: str = "qtseg_busi") -> Path:
    shutil.copytree(ROOT / "bundles" / name / "configs", place / "configs")
    return place


def roots(folder: Path) -> tuple[str, str]:
    """``bundle_root`` and ``ckpt_dir`` of a run of the config in ``folder``."""
    run = ConfigWorkflow(str(folder / "configs" / "train.json"), logging_file=False)
    run.parser["initialize"] = []
    run.initialize()
    return run.bundle_root, run.parser.get_parsed_content("ckpt_dir")


def test_a_bundle_is_where_its_config_is(tmp_path, monkeypatch, caplog):
    """Copied under its name, under another, given relative or absolute, from any folder."""
    same, other = copied(tmp_path / "zoo" / "qtseg_busi"), copied(tmp_path / "mine" / "organs_v2")
    for folder in (same, other):
        assert roots(folder) == (str(folder), f"{folder}/models")
    monkeypatch.chdir(tmp_path / "mine")
    assert roots(Path("organs_v2")) == ("organs_v2", "organs_v2/models")
    monkeypatch.chdir(other)
    assert roots(Path(".")) == (".", "./models")
    monkeypatch.chdir(other / "configs")
    run = ConfigWorkflow("train.json", logging_file=False)
    run.parser["initialize"] = []
    run.initialize()
    assert Path(run.bundle_root).resolve() == other
    # what no config is run for: the folder that one stands in, then the known one, and the log says so
    monkeypatch.chdir(other)
    assert bundle_root("qtseg_busi") == "."
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert Path(bundle_root("qtseg_busi")) == ROOT / "bundles" / "qtseg_busi"
    assert "could not be told" in caplog.text
    with pytest.raises(FileNotFoundError, match="bundle 'nothing' found neither in"):
        bundle_root("nothing")


def test_commands_that_read_a_config_themselves(tmp_path, monkeypatch):
    folder = copied(tmp_path / "renamed")
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr("monai_ext.bundle.note_trained_with", lambda: seen.append(bundle_root("qtseg_busi")))
    torch.save(Bundle(folder).parser().get_parsed_content("network_def").state_dict(), tmp_path / "w.pt")
    seen.clear()
    files = {"config_file": "renamed/configs/inference.json", "meta_file": "renamed/configs/metadata.json"}
    ckpt_export("network_def", filepath="a.ts", ckpt_file="w.pt", **files)
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] = [64, 64]
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    verify_net_in_out("network_def", device="cpu", **files)
    assert seen == ["renamed", "renamed"]


def test_what_was_trained_with_travels_in_the_file(tmp_path):
    network = torch.nn.Conv2d(1, 2, 1)
    torch.save(
        stamp(network.state_dict(), {"image_size": (96, 96), "intensity_window": [-100, 300]}), tmp_path / "a.pt"
    )
    expected = {"image_size": [96, 96], "intensity_window": [-100, 300]}
    shutil.copy(tmp_path / "a.pt", tmp_path / "moved.pt")
    assert trained_with(tmp_path / "moved.pt") == trained_with([tmp_path / "a.pt", tmp_path / "moved.pt"]) == expected
    state = torch.load(tmp_path / "moved.pt", weights_only=True)
    assert list(state) == ["weight", "bias"]
    load_weights(network, tmp_path / "moved.pt")
    torch.save({"model": state}, tmp_path / "nested.pt")
    assert trained_with(tmp_path / "nested.pt") == expected
    torch.save(stamp(network.state_dict(), {"image_size": [64, 64]}), tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"b\.pt: trained with image_size \[64, 64\], but .*a\.pt with \[96, 96\]"):
        trained_with([str(tmp_path / "a.pt"), str(tmp_path / "b.pt")])
    torch.save(stamp(network.state_dict(), {"image_size": "$1+1"}), tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad\.pt: trained with image_size '\$1\+1', expected one whole number"):
        trained_with(tmp_path / "bad.pt")
    assert trained_with(tmp_path / "not_there.pt") == trained_with(None) == {}


def test_older_weights_have_a_record_beside_them(tmp_path):
    """In the folder of both, or in a bundle's eval if it is that of the training that made them."""
    record = {"config": {"image_size": [48, 48], "intensity_window": "$x"}, "cases": [{"case": "1"}]}
    models, results = tmp_path / "models", tmp_path / "eval"
    models.mkdir()
    results.mkdir()
    torch.save(torch.nn.Conv2d(1, 2, 1).weight.data, models / "model.pt")
    (results / "run_training.json").write_text(json.dumps(record))
    assert trained_with(models / "model.pt") == {}
    (models / "model.cases.json").write_text(json.dumps({"cases": [{"case": "2"}]}))
    assert trained_with(models / "model.pt") == {}
    (models / "model.cases.json").write_text(json.dumps({"cases": record["cases"]}))
    assert trained_with(models / "model.pt") == {"image_size": [48, 48]}
    record["config"]["image_size"] = [32, 32]
    (models / "run_training.json").write_text(json.dumps(record))
    assert trained_with(models / "model.pt") == {"image_size": [32, 32]}


def test_an_export_carries_what_was_trained_with(tmp_path):
    bundle = Bundle.find("xattnres_unet_synapse")
    network = bundle.parser().get_parsed_content("network_def")
    torch.save(stamp(network.state_dict(), {"image_size": [96, 96], "intensity_window": [-80, 200]}), tmp_path / "w.pt")
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "organs.ts"),
        ckpt_file=str(tmp_path / "w.pt"),
        config_file=str(bundle.config_file("inference")),
        meta_file=str(bundle.config_file("metadata")),
    )
    found = Bundle.find(tmp_path)
    assert (found.name, found.exported, found.weights) == ("organs", tmp_path / "organs.ts", tmp_path / "organs.ts")
    assert found.class_names == bundle.class_names
    assert found.trained_with == {"image_size": [96, 96], "intensity_window": [-80, 200]}
    assert found.config() == bundle.config()
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.network()(x), network.eval()(x), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"organs\.ts: is an exported model; training needs"):
        found.workflow("training")


def test_nothing_is_written_into_an_installed_or_read_only_bundle(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    own = copied(tmp_path / "own")
    assert folder_for(own, "eval") == f"{own}/eval"
    monkeypatch.setattr("monai_ext.bundle.places._PACKAGE", tmp_path / "site-packages" / "monai_ext")
    installed = copied(tmp_path / "site-packages" / "monai_ext" / "bundles" / "qtseg_busi")
    assert collection() == installed.parent
    with caplog.at_level(logging.WARNING):
        assert folder_for(installed, "models") == str(tmp_path / "home" / "monai_ext" / "qtseg_busi" / "models")
    assert "is not written to" in caplog.text
    # weights that came with it are read from it, until there are the user's own
    (installed / "models").mkdir()
    assert folder_for(installed, "models", reading=True) == f"{installed}/models"
    (tmp_path / "home" / "monai_ext" / "qtseg_busi" / "models").mkdir(parents=True)
    assert folder_for(installed, "models", reading=True) == folder_for(installed, "models")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    places = {folder_for(copied(tmp_path / where / "same"), "models") for where in "ab"}
    assert len(places) == 2
    assert all(Path(place).is_relative_to(tmp_path / "home") for place in places)
