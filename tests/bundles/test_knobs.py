# SPDX-License-Identifier: Apache-2.0
"""Every knob of every bundle takes what a command line gives, or says in one line what it expects."""

from __future__ import annotations

import logging

import pytest
import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor

from monai_ext.bundle import KNOBS, Bundle, plain_cause
from tests.bundles.runs import BUNDLES, config

RUNS = (
    ("train",),
    ("train", "evaluate"),
    ("inference",),
    ("inference", "ensemble_inference"),
    ("train", "train_3d"),
    ("train", "strong"),
    ("inference", "inference_3d"),
)
# no knobs: what a run does, and what its parts are
PARTS = {
    "imports",
    "initialize",
    "run",
    "finalize",
    "bundle_root",
    "network",
    "cases",
    "handlers",
    "as_trained",
    "exclude",
}
# on the command line -> what the run has
GOOD = {
    "allow_overlap": ("true", True),
    "amp": ("false", False),
    "backend": ("openvino", "openvino"),
    "batch_size": ("3", 3),
    "cache_rate": ("0.5", 0.5),
    "ckpt_dir": ("7", "7"),
    "ckpt_path": ("no/such model.pt", "no/such model.pt"),
    "ckpt_paths": ("['a.pt','b.pt']", ["a.pt", "b.pt"]),
    "convention": ("monai", "monai"),
    "datalist": ("null", None),
    "dataset_dir": ("2024", "2024"),
    "dataset_name": ("synapse", "synapse"),
    "device": ("cpu", "cpu"),
    "ensemble": ("false", False),
    "epochs": ("2", 2),
    "flip_prob": ("1", 1),
    "fold": ("none", None),
    "foreground_share": ("0.5", 0.5),
    "foreground_weight": ("2.5", 2.5),
    "intensity_window": ("-100,300", [-100, 300]),
    "largest_component": ("[1,3]", [1, 3]),
    "learning_rate": ("1e-3", 0.001),
    "mirror": ("false", False),
    "mirror_axes": ("[0]", [0]),
    "num_classes": ("2", 2),
    "num_folds": ("3", 3),
    "num_workers": ("0", 0),
    "output_dir": ("12", "12"),
    "output_ext": (".nii", ".nii"),
    "patches_per_volume": ("1", 1),
    "precision": ("bfloat16", "bfloat16"),
    "pretrained": ("None", None),
    "resume": ("no", False),
    "rotation": ("0", 0),
    "seed": ("5", 5),
    "silent": ("false", False),
    "split": ("paper", "paper"),
    "strict": ("true", True),
    "tissue_contrast": ("-0.1,0.1", [-0.1, 0.1]),
    "tolerances": ("[2,3]", [2, 3]),
    "tta": ("true", True),
    "val_interval": ("1", 1),
    "warm_up": ("0", 0),
    "weight_decay": ("0", 0),
    "writer": ("monai_ext.data.AtomicNibabelWriter", "monai_ext.data.AtomicNibabelWriter"),
}
# on the command line -> what the message says is expected
WRONG = {
    "amp": ("maybe", "true or false"),
    "backend": ("tensorrt", "one of auto, torch, compile, openvino, onnxruntime"),
    "batch_size": ("0", "a whole number of at least 1"),
    "cache_rate": ("1.5", "a number from 0 to 1"),
    "device": ("gpu", "cpu, cuda, or a GPU's number"),
    "epochs": ("0", "a whole number of at least 1"),
    "flip_prob": ("-0.1", "a number from 0 to 1"),
    "fold": ("-1", "a whole number of at least 0"),
    "foreground_weight": ("much", "a number of at least 0"),
    "image_size": ("0", "one whole number of at least 1"),
    "intensity_window": ("[300,-100]", "two numbers, the lower first"),
    "learning_rate": ("0", "a number above 0"),
    "mirror": ("2", "true or false"),
    "num_workers": ("1.5", "a whole number of at least 0"),
    "output_dir": ("a,b", "one name or path"),
    "patches_per_volume": ("0", "a whole number of at least 1"),
    "precision": ("16", "one of auto, float32, bfloat16"),
    "resume": ("last.pt", "true or false"),
    "rotation": ("-1", "a number of at least 0"),
    "seed": ("x", "a whole number of at least 0"),
    "tissue_contrast": ("[-1,1]", "two numbers above -1, the lower first"),
    "val_interval": ("true", "a whole number of at least 1"),
    "weight_decay": ("[1,2]", "a number of at least 0"),
}


def read(bundle: str, files: tuple[str, ...]) -> dict | None:
    found = Bundle.find(bundle)
    if not all(found.config_file(name).is_file() for name in files):
        return None
    return {knob: value for name in files for knob, value in found.config(name).items()}


def workflow(bundle: str, files: tuple[str, ...], arguments: dict[str, str]) -> ConfigWorkflow:
    """``python -m monai.bundle run`` up to the check: Fire makes of each text what it does there."""
    kind = "inference" if files[0] == "inference" else "training"
    override = {knob: DefaultParseValue(text) for knob, text in arguments.items()}
    run = ConfigWorkflow(config(bundle, *files), workflow_type=kind, logging_file=False, **override)
    run.parser["initialize"] = ["$monai_ext.bundle.check_knobs()"]
    return run


@pytest.mark.parametrize("files", RUNS, ids="+".join)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_knob_takes_a_text(bundle, files):
    content = read(bundle, files)
    if content is None:
        assert "3d" in files[-1]
        return
    knobs = {k for k, v in content.items() if not isinstance(v, dict) and "#" not in k} - PARTS
    assert knobs <= KNOBS.keys()
    given = {knob: GOOD[knob][0] for knob in sorted(knobs & GOOD.keys())}
    assert knobs - given.keys() <= {"image_size"}
    run = workflow(bundle, files, given)
    run.initialize()
    for knob in given:
        found = run.parser.get_parsed_content(knob)
        assert found == GOOD[knob][1], knob
        assert type(found) is type(GOOD[knob][1]), knob


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_wrong_value_is_one_line(bundle):
    knobs = read(bundle, ("train", "strong")).keys() & WRONG.keys()
    assert len(knobs) > 14
    assert "precision" in knobs
    of_training = [(("train", "strong"), knob) for knob in sorted(knobs)]
    for configs, knob in [*of_training, (("inference",), "backend"), (("inference",), "precision")]:
        text, expected = WRONG[knob]
        with pytest.raises(RuntimeError) as refused:
            workflow(bundle, configs, {knob: text}).initialize()
        line = plain_cause(refused.value)
        assert line is not None and line.startswith(f"monai_ext: --{knob} "), knob
        assert f": expected {expected}" in line


@pytest.mark.parametrize("bundle", BUNDLES)
def test_sizes_in_each_form(bundle):
    """One number or one for each axis: images come out of that size; what a recipe cannot have is refused."""
    found = Bundle.find(bundle)
    one = isinstance(found.default("image_size"), int)
    for text in ("64", "[64,64]", "64,64"):
        run = workflow(bundle, ("inference",), {"image_size": text, "device": "cpu"})
        if one and text != "64":
            with pytest.raises(RuntimeError) as refused:
                run.initialize()
            assert "--image_size [64, 64]: expected one whole number" in plain_cause(refused.value)
            continue
        run.initialize()
        inferer = run.parser.get_parsed_content("inferer")
        steps = run.parser.get_parsed_content("preprocessing").transforms[2:]
        if not found.pictures:
            assert tuple(inferer.image_size) == (64, 64)
            continue
        data = {"image": MetaTensor(torch.rand(3, 50, 40) * 255)}
        for step in steps:
            data = step(data)
        assert data["image"].shape == (3, 64, 64)
    if not one:
        run = workflow(bundle, ("train",), {"image_size": "[8,8,8]"})
        with pytest.raises(RuntimeError) as refused:
            run.initialize()
        assert "--image_size [8, 8, 8]: expected one whole number, or 2" in plain_cause(refused.value)


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="has that many GPUs")
def test_a_gpu_that_is_not_there():
    with pytest.raises(RuntimeError) as refused:
        workflow("qtseg_busi", ("inference",), {"device": "cuda:7"}).initialize()
    assert "--device cuda:7: expected cpu, as PyTorch finds" in plain_cause(refused.value)


def test_devices_in_each_form():
    for device in ("cpu", torch.device("cpu")):
        run = ConfigWorkflow(config("qtseg_busi", "train"), logging_file=False, device=device, amp="true")
        run.parser["initialize"] = ["$monai_ext.bundle.check_knobs()"]
        run.initialize()
        assert run.parser.get_parsed_content("device") == "cpu"
        run.parser["probe"] = run.parser["validate#evaluator#amp"]
        assert run.parser.get_parsed_content("probe") is False


def test_a_size_against_the_weights_is_said(tmp_path, caplog):
    from monai_ext.bundle import stamp

    state = torch.nn.Linear(1, 1).state_dict()
    torch.save(stamp(state, {"image_size": (96, 96), "intensity_window": [-100, 300]}), tmp_path / "model.pt")
    run = workflow("dcaunet_synapse", ("inference",), {"ckpt_dir": str(tmp_path)})
    with caplog.at_level(logging.WARNING):
        run.initialize()
    assert run.parser.get_parsed_content("image_size") == [96, 96]
    assert run.parser.get_parsed_content("preprocessing#transforms#4#a_min") == -100
    assert "trained with" not in caplog.text
    run = workflow("dcaunet_synapse", ("train", "evaluate"), {"ckpt_dir": str(tmp_path), "image_size": "64"})
    with caplog.at_level(logging.WARNING):
        run.initialize()
    assert "--image_size [64, 64] is given, but the weights were trained with [96, 96]" in caplog.text
    assert run.parser.get_parsed_content("image_size") == [64, 64]
    assert run.parser.get_parsed_content("intensity_window") == [-100, 300]
