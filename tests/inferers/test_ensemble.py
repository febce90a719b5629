# SPDX-License-Identifier: Apache-2.0
"""An ensemble is the mean of its members' probabilities, over checkpoints, over mirrored views, and over both."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn as nn
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.layers.factories import Conv, Norm

from monai_ext.inferers import ProbabilityEnsemble, SliceBatchInferer, find_checkpoints

CLASSES = 4


class Network(nn.Module):
    """Not symmetric in any axis, and with running statistics, so that anything mixed up shows."""

    def __init__(self, spatial_dims: int, classes: int = CLASSES, channels: int = 1) -> None:
        super().__init__()
        self.conv = Conv["CONV", spatial_dims](channels, 6, 3, padding=1)
        self.norm = Norm["BATCH", spatial_dims](6)
        self.head = Conv["CONV", spatial_dims](6, classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))))


def make(spatial_dims: int, seed: int, **kwargs) -> nn.Module:
    torch.manual_seed(seed)
    network = Network(spatial_dims, **kwargs).double()
    network.norm.running_mean.normal_()
    network.norm.running_var.uniform_(0.5, 2)
    network.head.weight.data.mul_(4)
    return network.eval()


@pytest.fixture(params=[2, 3])
def members(request, tmp_path):
    """Two networks, their files, and an input."""
    networks = [make(request.param, seed) for seed in (1, 2)]
    files = [tmp_path / f"fold{i}.pt" for i in range(2)]
    for network, file in zip(networks, files):
        torch.save(network.state_dict(), file)
    x = torch.randn(2, 1, 9, 8, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return networks, files, x if request.param == 3 else x[..., 0]


def flips(axes) -> list[tuple[int, ...]]:
    return [tuple(a + 2 for a in chosen) for n in range(len(axes) + 1) for chosen in itertools.combinations(axes, n)]


@torch.no_grad()
def mean_probability(networks, x, axes=()) -> torch.Tensor:
    maps = [network(x.flip(f)).softmax(1).flip(f) for network in networks for f in flips(axes)]
    assert len(maps) == len(networks) * 2 ** len(axes)
    return torch.stack(maps).mean(0)


def blank(x: torch.Tensor) -> nn.Module:
    return make(x.dim() - 2, seed=9)


@pytest.mark.parametrize("axes", [(), (0,), (1, 0)])
@pytest.mark.parametrize("count", [1, 2])
def test_the_mean_of_probabilities(members, count, axes):
    networks, files, x = members
    ensemble = ProbabilityEnsemble(blank(x), files[:count], axes).eval()
    expected = mean_probability(networks[:count], x, axes)
    for _ in range(2):  # the members' turn comes again
        found = ensemble(x)
        torch.testing.assert_close(found.exp(), expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(found.softmax(1), expected, rtol=0, atol=1e-14)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    if count == 2 or axes:
        assert (expected - mean_probability(networks[:1], x)).abs().max() > 0.01


def test_every_axis_of_a_volume(members):
    networks, files, x = members
    axes = tuple(range(x.dim() - 2))
    expected = mean_probability(networks, x, axes)
    torch.testing.assert_close(ProbabilityEnsemble(blank(x), files, axes)(x).exp(), expected, rtol=0, atol=1e-14)


def test_members_keep_their_weights_and_statistics(members):
    networks, files, x = members
    ensemble = ProbabilityEnsemble(blank(x), files)
    for order in (files, files[::-1]):
        ensemble.checkpoints = [str(file) for file in order]
        ensemble(x)
        last = networks[files.index(order[-1])].state_dict()
        assert all(torch.equal(value, last[name]) for name, value in ensemble.network.state_dict().items())
    for network, file in zip(networks, files):  # the files are as they were
        saved = torch.load(file, weights_only=True)
        assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())


def test_one_checkpoint_is_read_once(members):
    networks, files, x = members
    ensemble = ProbabilityEnsemble(blank(x), files[0], (0,)).eval()
    files[0].unlink()
    torch.testing.assert_close(ensemble(x).exp(), mean_probability(networks[:1], x, (0,)), rtol=0, atol=1e-14)


def test_far_off_classes_stay_finite(members):
    """Where a probability underflows, an interpolation of -inf would be no number."""
    _, files, x = members
    state = torch.load(files[0], weights_only=True)
    state["head.bias"] += torch.tensor([0, -2000, 0, 2000.0])
    torch.save(state, files[0])
    result = ProbabilityEnsemble(blank(x), files[0], (0, 1))(x)
    assert result.isfinite().all()
    assert result[:, 1].max() < -1500


def test_training_mode_is_left_as_it_is(members):
    _, files, x = members
    for training in (True, False):
        network = blank(x).train(training)
        ensemble = ProbabilityEnsemble(network, files)
        assert network.training is training
        ensemble(x)
        assert network.training is network.norm.training is training
    assert not ProbabilityEnsemble(blank(x).train(), files).eval().network.norm.training


def test_no_gradient_and_what_the_network_computes_in(members):
    _, files, x = members
    assert not ProbabilityEnsemble(blank(x), files)(x.requires_grad_()).requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ProbabilityEnsemble(blank(x).float(), files)(x.float()).dtype == torch.float32


def test_in_inferers(members):
    """2D slices of a volume, windows, and whole inputs with metadata."""
    networks, files, x = members
    ensemble = ProbabilityEnsemble(blank(x), files, (0, 1)).eval()

    def reference(batch: torch.Tensor) -> torch.Tensor:
        return mean_probability(networks, batch, (0, 1)).log()

    roi = (6, 5, 4)[: x.dim() - 2]
    windows = SlidingWindowInferer(roi, sw_batch_size=3, overlap=0.5, mode="gaussian")
    torch.testing.assert_close(windows(x, ensemble), windows(x, reference), rtol=0, atol=1e-12)
    if x.dim() == 4:
        volume = torch.randn(1, 1, 10, 9, 5, dtype=torch.float64)
        slices = SliceBatchInferer((8, 8), batch_size=2)
        assert torch.equal(slices(volume, ensemble), slices(volume, reference))
    meta = MetaTensor(x, meta={"filename_or_obj": "case"})
    found = SimpleInferer()(meta, ensemble)
    assert isinstance(found, MetaTensor) and found.meta["filename_or_obj"] == "case"
    torch.testing.assert_close(found.as_tensor(), ensemble(x), rtol=0, atol=0)


def test_arguments_reach_the_network(members):
    _, files, x = members
    network = blank(x)
    forward, seen = network.forward, []
    network.forward = lambda x, *args, **kwargs: (seen.append((args, kwargs)), forward(x))[1]
    ProbabilityEnsemble(network, files)(x, 1, scale=2)
    assert seen == [((1,), {"scale": 2})] * 2


def test_other_classes_or_no_file_show_before_work(members, tmp_path):
    _, files, x = members
    other, missing = tmp_path / "other.pt", tmp_path / "none.pt"
    torch.save(make(x.dim() - 2, 3, classes=5).state_dict(), other)
    with pytest.raises(ValueError, match=r"other\.pt: its weights do not fit Network(.|\n)*head\.bias is \(5,\).*\(4,"):
        ProbabilityEnsemble(blank(x), [*files, other])
    with pytest.raises(FileNotFoundError, match=r"^monai_ext: .*none\.pt: no such weights file"):
        ProbabilityEnsemble(blank(x), [files[0], missing])
    with pytest.raises(ValueError, match=r"^monai_ext: no checkpoint is given"):
        ProbabilityEnsemble(blank(x), [])


@pytest.mark.parametrize("axes", [(0, 0), (-1,), (0.5,), ("H",)])
def test_bad_axes(members, axes):
    _, files, x = members
    with pytest.raises(ValueError, match="mirror_axes must be different spatial axes from 0 on"):
        ProbabilityEnsemble(blank(x), files, axes)


def test_bad_inputs_and_outputs(members, tmp_path):
    _, files, x = members
    with pytest.raises(ValueError, match=rf"mirror_axes \[0, 3\] for an input with {x.dim() - 2} spatial axes"):
        ProbabilityEnsemble(blank(x), files, (0, 3))(x)
    network = blank(x)
    network.forward = lambda x: [x, x]
    with pytest.raises(ValueError, match=r"returned a list, not one tensor .* call network\.eval\(\) first"):
        ProbabilityEnsemble(network, files)(x)
    single = make(x.dim() - 2, 0, classes=1)
    torch.save(single.state_dict(), tmp_path / "single.pt")
    with pytest.raises(ValueError, match="a channel for each class, background too; got one"):
        ProbabilityEnsemble(single, tmp_path / "single.pt")(x)


def test_files_patterns_and_folders(tmp_path):
    files = []
    for name in ("fold0", "fold1", "other"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "model.pt")
        files[-1].touch()
    names = list(map(str, files))
    assert find_checkpoints(files[1]) == find_checkpoints(names[1]) == names[1:2]
    assert find_checkpoints(names[::-1]) == names[::-1]
    assert find_checkpoints(str(tmp_path / "fold*" / "model.pt")) == names[:2]
    assert find_checkpoints(str(tmp_path / "fold*")) == names[:2]
    assert find_checkpoints(tmp_path) == names
    assert find_checkpoints(tmp_path / "fold1") == names[1:2]
    assert find_checkpoints([names[1], tmp_path]) == [names[1], names[0], names[2]]  # each once
    with pytest.raises(FileNotFoundError, match=r"fold7\*: no weights there. Expected a file, a pattern"):
        find_checkpoints(str(tmp_path / "fold7*"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: no weights there"):
        find_checkpoints([names[0], str(tmp_path / "empty")])


MEMORY = """
import sys
from pathlib import Path
import torch
from monai_ext.inferers import ProbabilityEnsemble

network = torch.nn.Sequential(torch.nn.Conv2d(1, 512, 3, padding=1), torch.nn.Conv2d(512, 2048, 1), torch.nn.Flatten(1),
                              torch.nn.Linear(2048 * 4, 1024), torch.nn.Unflatten(1, (256, 2, 2)))
ensemble = ProbabilityEnsemble(network, sys.argv[1:])
for _ in range(3):
    ensemble(torch.zeros(1, 1, 2, 2))
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def test_memory_does_not_grow_with_the_number_of_members(tmp_path):
    torch.manual_seed(0)
    linear, files = nn.Linear(2048 * 4, 1024), []
    state = {"0.weight": torch.rand(512, 1, 3, 3), "0.bias": torch.rand(512), "1.weight": torch.rand(2048, 512, 1, 1)}
    state |= {"1.bias": torch.rand(2048), **{f"3.{name}": value for name, value in linear.state_dict().items()}}
    for i in range(4):
        files.append(str(tmp_path / f"{i}.pt"))
        torch.save(state, files[-1])
    size = sum(value.numel() * value.element_size() for value in state.values()) / 2**20
    assert size > 30

    def peak(count: int) -> float:
        command = [sys.executable, "-c", MEMORY, *files[:count]]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    one = peak(1)
    assert peak(4) - one < 0.5 * size  # three members more would be three times it
