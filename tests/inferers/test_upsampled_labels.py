# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_ext.inferers import upsampled_labels as module
from monai_ext.inferers.upsampled_labels import upsampled_labels
from monai_ext.transforms.score_labels import arg_max
from monai_ext.transforms.slice_resize import resize_slices

SIZES = [
    ((7, 9), (31, 20)),
    ((24, 24), (55, 55)),
    ((24, 30), (11, 13)),
    ((1, 5), (4, 11)),
    ((5, 1), (11, 4)),
    ((6, 6), (6, 17)),
    ((6, 6), (1, 1)),
    ((6, 6), (6, 6)),
]


@pytest.mark.parametrize("classes", [2, 9, 104, 300])
@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_labels_of_interpolated_scores(classes, size, new_size, monkeypatch):
    monkeypatch.setattr(module, "MOSTLY_INNER", 1.0)  # never interpolate everything
    generator = torch.Generator().manual_seed(classes)
    coarse = torch.randn(3, classes, 4, 4, generator=generator, dtype=torch.float64)
    scores = resize_slices(coarse, size, "cubic") + 0.1 * torch.randn(3, classes, *size, generator=generator)
    expected = arg_max(resize_slices(scores, new_size, "bilinear"))
    labels = upsampled_labels(scores, new_size)
    assert labels.dtype == expected.dtype
    assert torch.equal(labels, expected)


def test_one_class_everywhere_and_scores_without_structure():
    assert not upsampled_labels(torch.zeros(2, 3, 8, 8), 20).any()
    noise = torch.rand(2, 5, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(upsampled_labels(noise, (40, 30)), arg_max(resize_slices(noise, (40, 30), "bilinear")))
