# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.engines import PrepareBatchMultiScale


def batch(size=(64, 96)):
    label = torch.zeros(2, 1, *size)
    label[:, :, : size[0] // 2] = 1
    return {"image": torch.rand(2, 3, *size), "label": label}


def test_sizes_come_from_the_scales_and_the_generator():
    torch.manual_seed(0)
    prepare = PrepareBatchMultiScale((0.75, 1, 1.25))
    sizes = [tuple(prepare(batch())[0].shape[2:]) for _ in range(40)]
    assert set(sizes) == {(64, 64), (64, 96), (64, 128)}  # in multiples of 32
    torch.manual_seed(0)
    assert sizes == [tuple(prepare(batch())[0].shape[2:]) for _ in range(40)]


def test_image_and_label_stay_together():
    image, label = PrepareBatchMultiScale((0.5,))(batch())
    assert image.shape == (2, 3, 32, 64)  # 48 is rounded up to a multiple
    assert label.shape == (2, 1, 32, 64)
    assert set(label.unique().tolist()) == {0, 1}
    assert label[:, :, :16].all() and not label[:, :, 16:].any()


@pytest.mark.parametrize("scales", [(), (0,), (1, -1)])
def test_bad_scales(scales):
    with pytest.raises(ValueError, match="scales must be positive"):
        PrepareBatchMultiScale(scales)


def test_a_batch_without_label():
    with pytest.raises(ValueError, match="no label"):
        PrepareBatchMultiScale()({"image": torch.rand(1, 3, 32, 32)})
