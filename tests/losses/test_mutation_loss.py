# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss

from monai_ext.losses import MutationLoss


def maps_and_target(maps: int, spatial: tuple[int, ...] = (6, 5), classes: int = 4, batch: int = 2):
    generator = torch.Generator().manual_seed(maps)
    logits = [
        torch.randn(batch, classes, *spatial, dtype=torch.float64, generator=generator, requires_grad=True)
        for _ in range(maps)
    ]
    return logits, torch.randint(classes, (batch, 1, *spatial), generator=generator)


def by_definition(maps: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """The published loss, subset by subset, class by class."""
    total = torch.zeros((), dtype=torch.float64)
    for number in range(1, len(maps) + 1):
        for subset in itertools.combinations(maps, number):
            logits = torch.stack(subset).sum(dim=0)
            probabilities = torch.softmax(logits, dim=1)
            dice = []
            for c in range(logits.shape[1]):
                p, g = probabilities[:, c], (target[:, 0] == c).double()
                dice.append(1 - (2 * (p * g).sum() + 1e-5) / ((p * p).sum() + (g * g).sum() + 1e-5))
            total = total + 0.3 * F.cross_entropy(logits, target[:, 0]) + 0.7 * torch.stack(dice).mean()
    return total


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("spatial", [(6, 5), (4, 3, 5)])
def test_value_and_gradient_are_those_of_the_definition(number, spatial):
    maps, target = maps_and_target(number, spatial)
    expected, got = by_definition(maps, target), MutationLoss()(maps, target)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    for a, b in zip(torch.autograd.grad(got, maps), torch.autograd.grad(expected, maps)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_one_map_is_monai_dice_ce():
    (logits,), target = maps_and_target(1)
    monai = DiceCELoss(
        softmax=True,
        squared_pred=True,
        batch=True,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
        lambda_ce=0.3,
        lambda_dice=0.7,
    )
    one_hot = F.one_hot(target[:, 0], 4).movedim(-1, 1).double()
    torch.testing.assert_close(MutationLoss()(logits, target), monai(logits, one_hot), rtol=1e-12, atol=0)


def test_labels_may_be_floats_as_monai_loads_them():
    maps, target = maps_and_target(2)
    assert MutationLoss()(maps, target.float()) == MutationLoss()(maps, target)


def test_an_absent_class_stays_finite():
    maps, target = maps_and_target(4)
    loss = MutationLoss()(maps, torch.zeros_like(target))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(y.grad).all() for y in maps)


def test_sigmoid_is_binary_cross_entropy_and_dice_of_each_channel():
    maps, _ = maps_and_target(2, classes=1)
    target = (torch.rand(maps[0].shape, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    expected = torch.zeros((), dtype=torch.float64)
    for logits in (maps[0], maps[1], maps[0] + maps[1]):
        p = torch.sigmoid(logits)
        dice = 1 - (2 * (p * target).sum() + 1e-5) / (p.square().sum() + target.sum() + 1e-5)
        expected = expected + 0.3 * F.binary_cross_entropy(p, target) + 0.7 * dice
    torch.testing.assert_close(MutationLoss(sigmoid=True)(maps, target), expected, rtol=1e-10, atol=0)


def test_half_precision_maps_are_summed_in_float32():
    maps, target = maps_and_target(4)
    exact = [y.detach().bfloat16() for y in maps]
    loss = MutationLoss()(exact, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), by_definition([y.double() for y in exact], target), rtol=1e-6, atol=0)


def test_weights():
    maps, target = maps_and_target(3)
    total = MutationLoss()(maps, target)
    parts = 0.3 * MutationLoss(1, 0)(maps, target) + 0.7 * MutationLoss(0, 1)(maps, target)
    torch.testing.assert_close(parts, total, rtol=1e-12, atol=0)


def test_wrong_inputs_are_refused():
    maps, target = maps_and_target(2)
    with pytest.raises(ValueError, match="at least one map"):
        MutationLoss()([], target)
    with pytest.raises(ValueError, match=r"shape \[2, 1, 6, 5\], got \[2, 1, 5, 5\]"):
        MutationLoss()(maps, target[:, :, 1:])
    with pytest.raises(ValueError, match=r"shape \[2, 4, 6, 5\]"):
        MutationLoss(sigmoid=True)(maps, target)
