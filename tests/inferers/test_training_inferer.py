# SPDX-License-Identifier: Apache-2.0
"""What of a training is bfloat16, and what stays float32: PyTorch computes in it on every processor, on some slowly."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel

from monai_ext.inferers import TrainingInferer, training_inferer
from monai_ext.networks.nets import DCAUNet


@pytest.fixture
def has_it(monkeypatch):
    monkeypatch.setattr(training_inferer, "has_bfloat16", lambda: True)


class Heads(nn.Module):
    """Two maps, as networks with deep supervision give them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.first(x), self.second(x)]


def seeded(build):
    torch.manual_seed(0)
    return build(), torch.rand(2, 1, 64, 64)


def test_gradients_are_near_those_of_float32(has_it):
    torch.manual_seed(3)
    network = DCAUNet(2, 1, 2, (32, 32, 64, 64), (1, 1, 1, 1))
    axes = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    disc = (torch.stack(axes) - 0.5).norm(dim=0) < 0.2
    x = disc * 0.5 + 0.1 * torch.rand(4, 1, 64, 64)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    results = []
    for precision in ("float32", "bfloat16"):
        network.zero_grad()
        y = TrainingInferer(precision)(x, network)
        loss = nn.functional.cross_entropy(y, disc.long().expand(4, -1, -1))
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        assert y.dtype == loss.dtype == gradient.dtype == torch.float32
        results.append((loss.detach(), gradient))
    (plain_loss, plain), (loss, found) = results
    assert 0 < abs(loss - plain_loss) < 0.01 * plain_loss
    assert 0 < (found - plain).norm() < 0.1 * plain.norm()
    after = dict(network.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name].dtype == torch.float32 and torch.equal(after[name], before[name]) for name in before)


def test_a_product_is_rounded_as_bfloat16_rounds(has_it):
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 4), torch.rand(3, 8)
    y = TrainingInferer("bfloat16")(x, layer)
    exact = x.bfloat16().double() @ layer.weight.bfloat16().double().T + layer.bias.bfloat16().double()
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=2**-8)
    y.sum().backward()
    # each row of the weight's gradient is the sum of the rounded inputs, itself rounded once more
    assert layer.weight.grad.dtype == torch.float32
    expected = x.bfloat16().double().sum(0).expand(4, 8)
    torch.testing.assert_close(layer.weight.grad.double(), expected, rtol=2**-8, atol=0)


def test_every_head_is_float32(has_it):
    network, x = seeded(Heads)
    for found, expected in zip(TrainingInferer("bfloat16")(x, network), network(x), strict=True):
        assert found.dtype == torch.float32
        assert 0 < (found - expected).norm() < 0.02 * expected.norm()


def test_auto_takes_it_for_marked_networks_only(has_it, monkeypatch, caplog):
    network, x = seeded(lambda: nn.Conv2d(1, 2, 3))
    assert torch.equal(TrainingInferer("auto")(x, network), network(x))
    monkeypatch.setattr(nn.Conv2d, "bfloat16_training", True, raising=False)
    inferer = TrainingInferer("auto")
    for _ in range(2):
        assert torch.equal(inferer(x, network), TrainingInferer("bfloat16")(x, network))
    assert [r.getMessage() for r in caplog.records] == [
        "monai_ext: Conv2d trains in bfloat16 on this processor; --precision float32 is exact."
    ]
    assert torch.equal(TrainingInferer("float32")(x, network), network(x))
    monkeypatch.setattr(training_inferer, "has_bfloat16", lambda: False)
    assert torch.equal(TrainingInferer("auto")(x, network), network(x))


def test_a_network_of_several_processes(has_it, monkeypatch, tmp_path):
    monkeypatch.setattr(nn.Conv2d, "bfloat16_training", True, raising=False)
    network, x = seeded(lambda: nn.Conv2d(1, 2, 3))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        shared = DistributedDataParallel(network)
        y = TrainingInferer("auto")(x, shared)
        assert torch.equal(y, TrainingInferer("bfloat16")(x, network))
        y.sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert network.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("processor", "--precision bfloat16: this processor does not compute in it; float32 is taken."),
        ("3d", "--precision bfloat16: PyTorch's gradients of 3D convolutions are wrong in it on a processor; float32"),
        ("gpu", "--precision bfloat16: is for training on a processor; on a GPU --amp says what is taken."),
    ],
)
def test_where_it_cannot_be_had_one_line_says_so(case, line, monkeypatch, caplog):
    monkeypatch.setattr(training_inferer, "has_bfloat16", lambda: case != "processor")
    dims = 3 if case == "3d" else 2
    torch.manual_seed(0)
    network, x = (nn.Conv3d if dims == 3 else nn.Conv2d)(1, 2, 3), torch.rand(1, 1, *[8] * dims)
    expected = network(x)
    if case == "gpu":  # the device that every machine has
        network, x = network.to("meta"), x.to("meta")
    inferer = TrainingInferer("bfloat16")
    with caplog.at_level(logging.WARNING):
        found = [inferer(x, network) for _ in range(2)]
    assert all(y.dtype == torch.float32 and (case == "gpu" or torch.equal(y, expected)) for y in found)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"monai_ext: {line}")


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="monai_ext: TrainingInferer: precision .*float16"):
        TrainingInferer("float16")
