# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the official repositories become weights of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_ext.apps.commands.convert import convert_reference
from monai_ext.networks import load_weights
from monai_ext.networks.nets import FPNEncoder, XAttnResBlockUNet


def official(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The names of the authors' own file, for the first encoder stage and the head; ours for the rest."""
    names = {}
    for key, value in net.state_dict().items():
        if key == "head.weight" or key == "head.bias":
            key = key.replace("head", "out_conv")
        names["module." + key] = value
    return names


def convert(network: str, source: Path, target: Path, *arguments: str) -> subprocess.CompletedProcess:
    files = ["--input", str(source), "--output", str(target)]
    command = [sys.executable, "-m", "monai_ext", "convert", "--network", network, *files, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_converts_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    net = XAttnResBlockUNet(in_channels=1, out_channels=3)
    torch.save({"state_dict": official(net)}, tmp_path / "official.pt")
    target = tmp_path / "models" / "model.pt"
    done = convert("XAttnResBlockUNet", tmp_path / "official.pt", target, "--in_channels", "1", "--out_channels", "3")
    assert done.returncode == 0, done.stderr
    assert f"{len(net.state_dict())} tensors for XAttnResBlockUNet" in done.stdout
    fresh = XAttnResBlockUNet(in_channels=1, out_channels=3)
    load_weights(fresh, target)
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), net.state_dict().values()))


def test_the_command_lists_what_does_not_fit(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pt")
    done = convert("QTSeg", tmp_path / "other.pt", tmp_path / "model.pt")
    assert done.returncode != 0
    assert done.stderr.startswith("monai_ext: ")
    assert "other.pt: its weights do not fit QTSeg" in done.stderr
    assert "surplus: x" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "model.pt").exists()


def test_an_encoder_converts_alone(tmp_path):
    """Its own key rules, those that QTSeg's begin with."""
    net = FPNEncoder(base_width=2)
    names = {"down5.": "conv_19.", "stage2.0.": "conv_0.", "output4.split.": "c2f_18.cv1."}
    state = net.state_dict()
    official = {
        next((key.replace(a, b) for a, b in names.items() if key.startswith(a)), key): v for key, v in state.items()
    }
    official = {key.replace(".norm.", ".bn."): value for key, value in official.items()}
    assert not set(official) & {"down5.conv.weight", "stage2.0.norm.bias"}
    torch.save(official, tmp_path / "official.pt")
    assert convert_reference("FPNEncoder", tmp_path / "official.pt", tmp_path / "ours.pt", base_width=2) == len(state)
    fresh = FPNEncoder(base_width=2)
    load_weights(fresh, tmp_path / "ours.pt")
    assert all(torch.equal(value, state[key]) for key, value in fresh.state_dict().items())


def test_unknown_networks(tmp_path):
    with pytest.raises(ValueError, match="network 'UNet' is unknown; checkpoints are known for DoubleUNetDCA"):
        convert_reference("UNet", tmp_path / "three.pt", tmp_path / "model.pt")
