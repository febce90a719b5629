# SPDX-License-Identifier: Apache-2.0
"""Regions become a label map in their order, by every inferer and by an ensemble."""

from __future__ import annotations

import pytest
import torch

from monai_ext.apps.label.uncertainty import uncertainty
from monai_ext.inferers import ProbabilityEnsemble, SliceBatchInferer, SlidingWindowLabelInferer
from monai_ext.inferers.upsampled_labels import upsampled_labels
from monai_ext.transforms import resize_slices
from monai_ext.transforms.score_labels import labels_of

ORDER = [1, 3, 2]  # as KiTS has it: kidney, masses, tumour


def written(logits: torch.Tensor) -> torch.Tensor:
    """By hand: one region after the other over those before."""
    label = torch.zeros_like(logits[:, :1], dtype=torch.uint8)
    for k, value in enumerate(ORDER):
        label[logits[:, k : k + 1] > 0] = value
    return label


def test_later_regions_lie_over_those_before():
    logits = torch.tensor([[1.0, -1, -1], [1, 1, -1], [-1, -1, 1], [1, -1, 1], [-1, -1, -1], [1, 1, 1]]).T[
        None, :, None
    ]
    assert labels_of(logits, regions=ORDER).flatten().tolist() == [1, 3, 2, 2, 0, 2]
    assert labels_of(logits[0], 0, ORDER).flatten().tolist() == [1, 3, 2, 2, 0, 2]


def test_interpolated_as_if_everywhere():
    scores = torch.randn(2, 3, 17, 13, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(scores, 7, 1, 3)
    for each in (scores, smooth):
        found = upsampled_labels(each, (50, 41), ORDER)
        torch.testing.assert_close(found, written(resize_slices(each, (50, 41), "bilinear")))


def test_every_inferer_gives_the_same_map():
    torch.manual_seed(0)
    flat, deep = torch.nn.Conv2d(2, 3, 1), torch.nn.Conv3d(2, 3, 1)
    deep.load_state_dict({name: v[..., None] if v.dim() == 4 else v for name, v in flat.state_dict().items()})
    x = torch.randn(1, 2, 20, 18, 7)
    with torch.no_grad():
        expected = written(deep(x))
    for mirror in (False, True):
        inferer = SliceBatchInferer(None, batch_size=3, mirror=mirror, regions=ORDER)
        torch.testing.assert_close(inferer(x, flat), expected)
    torch.testing.assert_close(SlidingWindowLabelInferer((8, 8, 4), 2, regions=ORDER)(x, deep), expected)
    probabilities = SliceBatchInferer(None, output="probabilities", regions=ORDER)(x, flat)
    torch.testing.assert_close(probabilities, deep(x).sigmoid().detach())
    one = torch.nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        single = SliceBatchInferer(None, regions=[4])(x, one)
        torch.testing.assert_close(single[..., 0], 4 * (one(x[..., 0]) > 0).to(torch.uint8))
    with pytest.raises(ValueError, match="3 channels, expected 2 regions"):
        SliceBatchInferer(None, regions=[1, 2])(x, flat)
    assert 0 < uncertainty(x, flat, SliceBatchInferer(None, regions=ORDER)) < 1


def test_an_ensemble_averages_each_regions_probability(tmp_path):
    torch.manual_seed(0)
    networks = [torch.nn.Conv2d(2, 3, 3, padding=1) for _ in range(3)]
    files = [tmp_path / f"{k}.pt" for k in range(3)]
    for network, file in zip(networks, files):
        torch.save(network.state_dict(), file)
    x = torch.randn(2, 2, 9, 8)
    found = ProbabilityEnsemble(torch.nn.Conv2d(2, 3, 3, padding=1), files, regions=ORDER).eval()(x)
    with torch.no_grad():
        mean = torch.stack([network(x).sigmoid() for network in networks]).mean(dim=0)
    torch.testing.assert_close(found.sigmoid(), mean)
    torch.testing.assert_close(found > 0, mean > 0.5)
    mirrored = ProbabilityEnsemble(torch.nn.Conv2d(2, 3, 3, padding=1), files[0], [0], regions=ORDER).eval()(x)
    with torch.no_grad():
        views = [networks[0](x).sigmoid(), networks[0](x.flip(2)).flip(2).sigmoid()]
    torch.testing.assert_close(mirrored.sigmoid(), torch.stack(views).mean(dim=0))
