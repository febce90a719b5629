# SPDX-License-Identifier: Apache-2.0
"""Files of weights: strict, harmless and finite."""

from __future__ import annotations

import re

import pytest
import torch

from monai_ext.networks import load_reference, load_weights
from monai_ext.networks.nets import XAttnResBlockUNet
from monai_ext.networks.weights import read_weights


def test_another_number_of_classes(tmp_path):
    torch.save(XAttnResBlockUNet(in_channels=1, out_channels=3).state_dict(), tmp_path / "three.pt")
    with pytest.raises(ValueError, match=r"three.pt: its weights do not fit(.|\n)*misshaped: head.bias is \(3,\)"):
        load_weights(XAttnResBlockUNet(in_channels=1, out_channels=4), tmp_path / "three.pt")


def test_a_network_without_official_names(tmp_path):
    with pytest.raises(ValueError, match="of the authors: no official names are known for Linear"):
        load_reference(torch.nn.Linear(1, 1), {}, "a file of the authors")


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


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))


def spoil(value: torch.Tensor, number: float) -> torch.Tensor:
    value = value.clone()
    value.view(-1)[2] = number
    return value


BROKEN = {
    "nan": ("0.weight", lambda value: spoil(value, float("nan")), "1 of 36 values are NaN or infinite"),
    "infinity": ("2.bias", lambda value: value * float("inf"), "2 of 2 values are NaN or infinite"),
    "beyond float32": ("1.bias", lambda value: spoil(value.double(), 1e300), "1 of 4 values are NaN or infinite"),
    "variance": ("1.running_var", lambda value: spoil(value, -0.5), "a variance of -0.5"),
    "complex": ("0.weight", lambda value: value.to(torch.complex64), "torch.complex64, the network has torch.float32"),
    "integers": ("2.weight", lambda value: (100 * value).to(torch.int8), "torch.int8, the network has torch.float32"),
    "sparse": ("0.weight", lambda value: value.to_sparse(), "sparse"),
    "quantised": ("2.weight", lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "quantised"),
    "meta": ("0.bias", lambda value: value.to("meta"), "a meta tensor, which has no values"),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("kind", BROKEN)
def test_what_no_network_can_work_with_is_named(tmp_path, kind, mmap):
    key, change, fault = BROKEN[kind]
    state = small().state_dict()
    torch.save({**state, key: change(state[key])}, tmp_path / "broken.pt")
    network = small()
    with pytest.raises(ValueError, match=r"^monai_ext: .*broken\.pt: ") as error:
        load_weights(network, tmp_path / "broken.pt", mmap=mmap)
    (line,) = str(error.value).splitlines()
    assert re.search(rf"(with|but) {re.escape(key)}(:| is) {re.escape(fault)}", line)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())  # nothing was loaded


def test_a_network_of_zeros_is_refused_but_zeros_in_one_are_not(tmp_path, caplog):
    state = small().state_dict()
    torch.save({key: torch.zeros_like(value) for key, value in state.items()}, tmp_path / "zeros.pt")
    with pytest.raises(
        ValueError, match=r"zeros\.pt: .* 0\.weight: all zero, as every weight is\. (.|\n)*  2\.weight: all zero"
    ):
        load_weights(small(), tmp_path / "zeros.pt")
    network = small()
    load_weights(network, tmp_path / "zeros.pt", refuse_zero=False)
    assert "zeros.pt: 0.weight: all zero, as every weight is: every pixel will be background" in caplog.text
    assert not any(value.any() for value in network.state_dict().values())
    # a new XAttnResBlockUNet has queries of zero, biases of zero, and published ones keep them
    fresh = XAttnResBlockUNet(in_channels=1, out_channels=3)
    assert any(value.dim() > 1 and not value.any() for value in fresh.state_dict().values())
    torch.save(fresh.state_dict(), tmp_path / "fresh.pt")
    load_weights(fresh, tmp_path / "fresh.pt")
    # half precision is a plain number of another width
    torch.save(
        {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        tmp_path / "half.pt",
    )
    network = small()
    load_weights(network, tmp_path / "half.pt")
    torch.testing.assert_close(network.state_dict(), state, rtol=1e-3, atol=1e-4)
