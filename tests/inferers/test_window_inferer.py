# SPDX-License-Identifier: Apache-2.0
"""``SlidingWindowLabelInferer`` against MONAI's ``SlidingWindowInferer`` and arg-max."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Orientationd

from monai_ext.inferers import SlidingWindowLabelInferer
from monai_ext.transforms import resize_volume, volume_size_at_spacing
from monai_ext.transforms.score_labels import labels_of


def make_network(spatial_dims: int = 3, channels: int = 1, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    return conv(channels, classes, 3, padding=1).eval()


def make_input(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def expected(x: torch.Tensor, network: nn.Module, *args, **kwargs) -> torch.Tensor:
    return SlidingWindowInferer(*args, **kwargs)(x, network).argmax(1, keepdim=True).to(torch.uint8)


SIZES = [
    ((40, 33, 21), (16, 12, 8)),
    ((16, 30, 9), (16, 12, 8)),  # one window's length
    ((17, 12, 8), (16, 12, 8)),  # the second window all but covers the first
    ((9, 40, 5), (16, 12, 8)),  # padded
    ((5, 4, 3), (16, 12, 8)),
    ((40, 33, 21), (16, -1, 8)),
    ((40, 33, 21), 12),
    ((50, 41), (16, 12)),
]


def assert_same(labels: torch.Tensor, wanted: torch.Tensor) -> None:
    """But for ties that another order of sums, or another processor, may break otherwise."""
    assert labels.shape == wanted.shape and (labels != wanted).float().mean() < 1e-4


class TestEqualToMonai:
    @pytest.mark.parametrize(("shape", "roi"), SIZES)
    @pytest.mark.parametrize(
        ("overlap", "mode"), [(0.5, "gaussian"), (0.25, "constant"), (0.7, "gaussian"), (0, "gaussian")]
    )
    def test_sizes_and_overlaps(self, shape, roi, overlap, mode):
        x, network = make_input(1, 1, *shape), make_network(len(shape))
        labels = SlidingWindowLabelInferer(roi, 3, overlap, mode)(x, network)
        assert labels.shape == (1, 1, *shape) and labels.dtype == torch.uint8 and labels.is_contiguous()
        assert_same(labels, expected(x, network, roi, 3, overlap, mode))
        assert len(labels.unique()) == 5

    @pytest.mark.parametrize("batch", [1, 2, 5, 100])
    def test_several_volumes_channels_and_batch_sizes(self, batch):
        x, network = make_input(3, 2, 30, 20, 11), make_network(channels=2)
        labels = SlidingWindowLabelInferer((16, 12, 8), batch)(x, network)
        assert_same(labels, expected(x, network, (16, 12, 8), batch, 0.5, "gaussian"))

    def test_float64_and_overlap_by_axis(self):
        x, network = make_input(1, 1, 30, 20, 11).double(), make_network().double()
        labels = SlidingWindowLabelInferer((16, 12, 8), 2, (0.5, 0.25, 0))(x, network)
        assert_same(labels, expected(x, network, (16, 12, 8), 2, (0.5, 0.25, 0), "gaussian"))

    def test_padding(self):
        x, network = make_input(1, 1, 10, 20, 11), make_network()
        for options in ({"padding_mode": "replicate"}, {"cval": 3.0}):
            labels = SlidingWindowLabelInferer((16, 12, 8), 2, **options)(x, network)
            assert_same(labels, expected(x, network, (16, 12, 8), 2, 0.5, "gaussian", **options))

    def test_a_network_under_autocast(self):
        x, network = make_input(1, 1, 30, 20, 11), make_network()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            labels = SlidingWindowLabelInferer((16, 12, 8), 2)(x, network)
        assert (labels != expected(x, network, (16, 12, 8), 2, 0.5, "gaussian")).float().mean() < 0.02


class TestCalls:
    def test_windows_come_in_monais_batches(self):
        """So that a network whose numbers hang on its batch gives the same ones."""
        seen: list[list[torch.Tensor]] = [[], []]
        network = make_network()
        for calls, inferer in zip(seen, (SlidingWindowLabelInferer, SlidingWindowInferer)):
            inferer((16, 12, 8), 3, overlap=0.5, mode="gaussian")(
                make_input(2, 1, 30, 20, 11), lambda x, calls=calls: (calls.append(x.clone()), network(x).detach())[1]
            )
        assert len(seen[0]) == len(seen[1]) and all(map(torch.equal, *seen))

    def test_meta_tensor_keeps_what_it_knows(self):
        image = MetaTensor(make_input(1, 20, 15, 9), affine=torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0])))
        volume = Orientationd("image", axcodes="LPS", labels=None)({"image": image})["image"]
        volume.meta["filename_or_obj"] = "case.nii.gz"
        labels = SlidingWindowLabelInferer((16, 12, 8))(volume[None], make_network())
        assert isinstance(labels, MetaTensor) and torch.equal(labels.affine, volume.affine)
        assert labels.meta["filename_or_obj"] == "case.nii.gz"
        assert labels.applied_operations == volume.applied_operations != []

    def test_one_output_channel_is_foreground(self):
        x, network = make_input(1, 1, 20, 15, 9), make_network(classes=1)
        with torch.no_grad():
            logits = SlidingWindowInferer((16, 12, 8), 1, 0.5, "gaussian")(x, network)
        labels = SlidingWindowLabelInferer((16, 12, 8))(x, network)
        assert torch.equal(labels, (logits > 0).to(torch.uint8))

    def test_no_gradient_and_arguments_for_the_network(self):
        network, seen = make_network(), []

        def call(x, *args, **kwargs):
            seen.append((args, kwargs))
            return network(x)

        labels = SlidingWindowLabelInferer((16, 12, 8))(make_input(1, 1, 16, 12, 8).requires_grad_(), call, 1, scale=2)
        assert not labels.requires_grad and seen == [((1,), {"scale": 2})]

    def test_the_output_of_the_network_is_left_alone(self):
        logits = torch.randn(1, 5, 16, 12, 8)
        before = logits.clone()
        SlidingWindowLabelInferer((16, 12, 8))(make_input(1, 1, 30, 12, 8), lambda x: logits)
        assert torch.equal(logits, before)

    @pytest.mark.parametrize(
        ("network", "message"),
        [
            (lambda x: [x, x], r"returned a list, not one tensor .* call network\.eval\(\) first"),
            (lambda x: x.flatten(1), r"shape \[1, 1536\] for windows \[1, 1, 16, 12, 8\]"),
            (
                lambda x: x.repeat(1, 3, 1, 1, 1)[..., ::2],
                r"shape \[1, 3, 16, 12, 4\] for windows .* the windows' size",
            ),
        ],
    )
    def test_networks_that_do_not_return_logits(self, network, message):
        with pytest.raises(ValueError, match=message):
            SlidingWindowLabelInferer((16, 12, 8))(make_input(1, 1, 20, 15, 9), network)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"sw_batch_size": 0}, "at least 1, got 0"),
            ({"overlap": 1.0}, r"from 0 to below 1, got 1\.0"),
            ({"overlap": (0.5, -0.1, 0)}, "from 0 to below 1"),
            ({"mode": "cubic"}, "cubic"),
            ({"padding_mode": "mirror"}, "mirror"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SlidingWindowLabelInferer((16, 12, 8), **arguments)

    def test_axes_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"roi_size \[16, 12\] for an input \[1, 1, 20, 15, 9\]: 3 axes"):
            SlidingWindowLabelInferer((16, 12))(make_input(1, 1, 20, 15, 9), make_network())


MEMORY = """
import sys
from pathlib import Path
import torch
from monai.inferers import SlidingWindowInferer
from monai_ext.inferers import SlidingWindowLabelInferer

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

network, roi = torch.nn.Conv3d(1, 32, 1), (24, 48, 48)
def infer(length):
    SlidingWindowLabelInferer(roi)(torch.zeros(1, 1, length, 96, 96), network)
    return peak()
print(infer(48), infer(192))
torch.no_grad().__enter__()
SlidingWindowInferer(roi, 1, 0.5, "gaussian")(torch.zeros(1, 1, 192, 96, 96), network)
print(peak())
"""


def test_memory_does_not_grow_with_the_length_of_the_volume():
    whole_logits = 32 * 192 * 96 * 96 * 4 / 2**20  # 216 MiB
    grown = []
    for _ in range(3):  # a peak includes what the allocator happened to keep: the least of three is the inferer's
        run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
        short, longer, monai = map(float, run.stdout.split())
        assert monai - longer > 0.6 * whole_logits
        grown.append(longer - short)
    assert min(grown) < 0.1 * whole_logits


@pytest.mark.parametrize("regions", [None, [1, 2, 9]])
@pytest.mark.parametrize(
    ("shape", "spacing", "roi"),
    [
        ((30, 26, 12), (1.3, 2.1, 2.0), (16, 16, 16)),
        ((13, 22, 15), (3.0, 3.0, 1.0), (16, 16, 32)),  # rows of the scan between two of the network's, and padding
        ((30, 26, 12), (0.7, 1.5, 9.0), (16, 16, 4)),
        ((10, 9, 8), 1.0, (32, 32, 32)),
    ],
)
def test_probabilities_go_back_to_the_scans_grid(shape, spacing, roi, regions):
    """What the whole volume of them, interpolated at once, has as its arg-max; two volumes, a row at a time here."""
    network = random_conv(3)
    affine = torch.diag(torch.tensor([1.0, 1.5, 3.0, 1.0]))
    x = MetaTensor(torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1)), affine=affine)
    size = volume_size_at_spacing(x, spacing)
    with torch.no_grad():
        resized = torch.stack([resize_volume(volume.as_tensor(), size) for volume in x])
        logits = SlidingWindowInferer(roi, 2, 0.5, "gaussian")(resized, network)
        scores = logits.sigmoid() - 0.5 if regions else logits.softmax(dim=1)
        back = F.interpolate(scores, shape, mode="trilinear", align_corners=True)
    found = SlidingWindowLabelInferer(roi, 2, spacing=spacing, regions=regions)(x, network)
    assert found.shape == (2, 1, *shape)
    assert torch.equal(found.affine, x.affine)
    assert (found.as_tensor() != labels_of(back, regions=regions)).float().mean() < 1e-4  # ties of rounding
    assert len(found.unique()) > 2


def test_a_spacing_needs_an_affine():
    with pytest.raises(ValueError, match="a volume with an affine is needed"):
        SlidingWindowLabelInferer((8, 8, 8), spacing=1.0)(torch.rand(1, 1, 8, 8, 8), random_conv(3))
    far = MetaTensor(torch.rand(1, 1, 8, 8, 8), affine=torch.diag(torch.tensor([900.0, 900.0, 900.0, 1.0])))
    with pytest.raises(ValueError, match="Is the spacing of this scan right"):
        SlidingWindowLabelInferer((8, 8, 8), spacing=1.0)(far, random_conv(3))


def random_conv(classes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, classes, 3, padding=1)
    torch.nn.init.normal_(network.weight)
    torch.nn.init.zeros_(network.bias)
    return network
