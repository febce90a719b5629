# SPDX-License-Identifier: Apache-2.0
"""What of a network is computed in bfloat16 on a processor that has it, and what stays float32."""

import pytest
import torch
import torch.nn as nn

from monai_ext.networks import backends, ready_network
from monai_ext.networks.nets import DCAUNet, QTSeg, UNetDCA, XAttnResEMCAD


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


@pytest.fixture
def has_it(monkeypatch):
    monkeypatch.setattr(backends, "has_bfloat16", lambda: True)


def saved(network, path):
    torch.save(network.state_dict(), path)
    return path


@torch.no_grad()
def test_only_the_named_parts(has_it, monkeypatch, tmp_path):
    torch.manual_seed(0)
    network, x = Pair().eval(), torch.rand(4, 8)
    weights = saved(network, tmp_path / "model.pt")
    monkeypatch.setattr(Pair, "bfloat16_inference", ("first",), raising=False)
    rounded = (
        x.bfloat16().double() @ network.first.weight.bfloat16().double().T + network.first.bias.bfloat16().double()
    )
    # one rounding more where the sum is stored: half of the last of eight bits
    expected = network.last(rounded.bfloat16().float())
    found = ready_network(Pair(), weights)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2**-8, atol=2**-8)
    assert not torch.equal(found, network(x))
    assert torch.equal(ready_network(Pair(), weights, precision="float32")(x), network(x))
    monkeypatch.setattr(backends, "has_bfloat16", lambda: False)
    assert torch.equal(ready_network(Pair(), weights)(x), network(x))


@pytest.mark.parametrize(
    ("build", "kept"),
    [
        (lambda: DCAUNet(2, 1, 4, (32, 32, 64, 64), (1, 1, 1, 1)), ("head", "embed", "attention", "norm", "fusions")),
        (lambda: XAttnResEMCAD(2, 1, 4, encoder="pvt_v2_b0"), ("heads", "embed", "depthwise", "norm", "mscam", "gate")),
    ],
)
@torch.no_grad()
def test_parts_of_networks(build, kept, has_it, tmp_path):
    torch.manual_seed(0)
    network = build().eval()
    weights, x = saved(network, tmp_path / "model.pt"), torch.rand(2, 1, 64, 64)
    ready = ready_network(build(), weights)
    half = {name for name, value in ready.named_parameters() if value.dtype == torch.bfloat16}
    assert len(half) >= 4
    assert [name for name in half if any(part in name for part in kept)] == []
    expected, found = network(x), ready(x)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() / expected.norm() < 0.05


def test_a_network_without_the_mark_and_three_axes_stay_float32(has_it, tmp_path):
    for build in (
        lambda: UNetDCA(2, 1, 2, img_size=(32, 32)),
        lambda: DCAUNet(3, 1, 2, channels=(32, 32, 32, 32), depths=(1, 1, 1, 1)),
    ):
        ready = ready_network(build(), saved(build(), tmp_path / "model.pt"))
        assert {value.dtype for value in ready.parameters()} == {torch.float32}
        assert type(ready) in (UNetDCA, DCAUNet)


def test_a_network_may_be_computed_in_it_throughout(has_it, tmp_path):
    network = QTSeg(2, 3, 2).eval()
    ready = ready_network(QTSeg(2, 3, 2), saved(network, tmp_path / "model.pt"))
    assert ready.in_bfloat16
    with torch.no_grad():
        assert ready(torch.rand(1, 3, 64, 64)).dtype == torch.float32
