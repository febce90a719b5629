# SPDX-License-Identifier: Apache-2.0
"""Files of weights: strict, harmless, and of the official repositories too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_ext.networks import load_weights
from monai_ext.networks.nets import XAttnResBlockUNet
from monai_ext.networks.weights import convert_reference, read_weights


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


def test_unknown_networks_and_classes(tmp_path):
    torch.save(XAttnResBlockUNet(in_channels=1, out_channels=3).state_dict(), tmp_path / "three.pt")
    with pytest.raises(ValueError, match="network 'UNet' is unknown; checkpoints are known for"):
        convert_reference("UNet", tmp_path / "three.pt", tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"three.pt: its weights do not fit(.|\n)*misshaped: head.bias is \(3,\)"):
        load_weights(XAttnResBlockUNet(in_channels=1, out_channels=4), tmp_path / "three.pt")


class Evil:
    def __reduce__(self):
        return (print, ("code of the file was run",))


def test_a_file_cannot_run_code(tmp_path, capsys):
    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt: no PyTorch file of plain tensors"):
        read_weights(tmp_path / "evil.pt")
    assert "code of the file" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02."])
def test_damaged_files(tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(ValueError, match="bad.pt"):
        read_weights(tmp_path / "bad.pt")
    with pytest.raises(FileNotFoundError, match=r"none.pt: no such weights file\. Train first"):
        read_weights(tmp_path / "none.pt")
