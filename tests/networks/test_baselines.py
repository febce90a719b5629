# SPDX-License-Identifier: Apache-2.0
"""Networks of other libraries: sized as nnU-Net plans them, any size in, one map out, several in training."""

from __future__ import annotations

import importlib
from itertools import pairwise

import pytest
import torch

from monai_ext.networks import baselines
from monai_ext.networks.baselines import Baseline, stage_plan
from tests.networks.base import count_parameters

NAMES = ("basic_unet", "dynunet", "segresnet", "swinunetr", "plain_unet", "resenc_unet")


def test_stages_follow_from_the_size():
    # sides of 512, 224 and 320: halved to 4, 7 and 5, as plans of nnU-Net 2 for such patches
    assert stage_plan(512, 2)[0] == [32, 64, 128, 256, 512, 512, 512, 512]
    assert stage_plan((224, 224), 2) == ([32, 64, 128, 256, 512, 512], [[1, 1], *[[2, 2]] * 5])
    features, strides = stage_plan([128, 128, 16], 3)
    assert features == [32, 64, 128, 256, 320, 320]
    assert [axis[2] for axis in strides] == [1, 2, 2, 1, 1, 1]
    assert stage_plan(4, 2) == ([32], [[1, 1]])
    for size in ((224,), (0, 4)):
        with pytest.raises(ValueError, match=r"^monai_ext: img_size must be 2 sides of at least 1"):
            stage_plan(size, 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(50, 33), (33, 32, 17)], ids=str)
def test_any_size_gives_logits_of_that_size(name, size):
    try:
        with torch.device("meta"):
            network = getattr(baselines, name)(len(size), 2, 3, size)
    except RuntimeError:  # Swin UNETR asks for values
        network = getattr(baselines, name)(len(size), 2, 3, size).to("meta")
    x = torch.empty(2, 2, *size, device="meta")
    assert network.eval()(x).shape == (2, 3, *size)
    maps = network.train()(x)
    if name in ("plain_unet", "resenc_unet"):
        halves = [[-(-side // 2**level) for side in size] for level in range(len(maps))]
        assert len(maps) > 1
        assert [list(y.shape[2:]) for y in maps] == halves
    else:
        assert maps.shape == (2, 3, *size)


def test_padding_changes_nothing_where_none_is_needed():
    class Shift(torch.nn.Module):
        def forward(self, x):
            return x + torch.arange(x.shape[-1])

    x = torch.rand(1, 1, 5, 7)
    assert torch.equal(Baseline(Shift(), 4)(x), x + torch.arange(7))


def test_the_plain_network_has_what_the_plan_says():
    """A plain U-Net of 6 stages has the convolutions that the plan counts: nothing is left out or doubled."""
    with torch.device("meta"):
        network = baselines.plain_unet(2, 1, 9, 224)
    widths = [1, 32, 64, 128, 256, 512, 512]
    encoder = sum(9 * a * b + b + 2 * b + 9 * b * b + b + 2 * b for a, b in pairwise(widths))
    decoder = sum(
        4 * d * s + s + 9 * 2 * s * s + 3 * s + 9 * s * s + 3 * s for d, s in zip(widths[:1:-1], widths[-2:0:-1])
    )
    heads = sum(9 * s + 9 for s in widths[-2:0:-1])
    assert count_parameters(network) == encoder + decoder + heads


def test_what_is_not_installed_is_one_line(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    for name in ("plain_unet", "resenc_unet", "swinunetr"):
        with pytest.raises(
            ValueError, match=r'^monai_ext: .* needs the package .* pip install "monai-ext\[compare\]"\.$'
        ):
            getattr(baselines, name)(2, 1, 2, 32)
