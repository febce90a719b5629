# SPDX-License-Identifier: Apache-2.0
"""The loss of regions and ignored voxels: values by hand, equal to MONAI's where both are defined."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from monai_ext.losses import LabelLoss

REGIONS = [[1, 2, 3], [2, 3], [3]]


def batch(channels: int, size: tuple[int, ...] = (2, 12, 10)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(size[0], channels, *size[1:], generator=generator, dtype=torch.float64)
    return logits, torch.randint(4, (size[0], 1, *size[1:]), generator=generator)


@pytest.mark.parametrize("squared", [False, True])
def test_without_either_it_is_monais(squared):
    logits, labels = batch(4)
    options = {"lambda_dice": 0.6, "lambda_ce": 0.4, "squared_pred": squared, "batch": True}
    expected = DiceCELoss(to_onehot_y=True, softmax=True, **options)(logits, labels)
    torch.testing.assert_close(LabelLoss(**options)(logits, labels), expected)


def test_regions_by_hand():
    logits, labels = batch(3)
    p = logits.sigmoid()
    dice, entropy = [], []
    for k, values in enumerate(REGIONS):
        truth = sum((labels[:, 0] == value).double() for value in values)
        dice.append(1 - (2 * (p[:, k] * truth).sum() + 1e-5) / (p[:, k].sum() + truth.sum() + 1e-5))
        entropy.append(-(truth * p[:, k].log() + (1 - truth) * (1 - p[:, k]).log()).mean())
    expected = 0.7 * torch.stack(dice).mean() + 0.3 * torch.stack(entropy).mean()
    found = LabelLoss(REGIONS, lambda_dice=0.7, lambda_ce=0.3)(logits, labels)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("regions", "channels"), [(None, 4), (REGIONS, 3)])
@pytest.mark.parametrize("size", [(2, 12, 10), (1, 6, 5, 4)])
def test_what_is_ignored_changes_nothing(regions, channels, size):
    """Whatever is predicted there, infinity too; the loss is that of the other voxels alone, and so is its gradient."""
    logits, labels = batch(channels, size)
    ignored = torch.zeros(labels.shape, dtype=torch.bool)
    ignored[:, :, size[1] // 2 :] = True
    labels[ignored] = 255
    loss = LabelLoss(regions)
    changed = torch.where(ignored, torch.randn_like(logits) * 100, logits)
    changed[:, :, -1] = float("inf")
    changed.requires_grad_()
    value = loss(changed, labels)
    torch.testing.assert_close(value, loss(logits, labels), rtol=0, atol=0)
    kept = slice(None, size[1] // 2)
    torch.testing.assert_close(value, LabelLoss(regions)(logits[:, :, kept], labels[:, :, kept]))
    value.backward()
    assert not changed.grad[ignored.expand_as(changed)].any()
    assert changed.grad[~ignored.expand_as(changed)].abs().min() > 0
    labels[:] = 255
    assert loss(logits, labels) == 0


def test_deep_supervision_and_wrong_channels():
    logits, labels = batch(3)
    loss = LabelLoss(REGIONS)
    torch.testing.assert_close(loss([logits, 2 * logits], labels), loss(logits, labels) + loss(2 * logits, labels))
    with pytest.raises(ValueError, match="4 channels, expected one for each of 3 regions"):
        loss(batch(4)[0], labels)
