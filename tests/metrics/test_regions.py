# SPDX-License-Identifier: Apache-2.0
"""What of two label maps is compared."""

from __future__ import annotations

import torch

from monai_ext.metrics import compared_labels, region_masks, without_ignored

LABEL = torch.tensor([[[0, 1, 2, 3, 255, 255]]])
PRED = torch.tensor([[[0, 2, 2, 1, 3, 0]]])


def test_nothing_where_nobody_has_looked():
    pred, label = without_ignored(PRED, LABEL)
    assert pred.tolist() == [[[0, 2, 2, 1, 0, 0]]]
    assert label.tolist() == [[[0, 1, 2, 3, 0, 0]]]
    assert PRED[0, 0, 4] == 3
    assert without_ignored(PRED, PRED)[0] is PRED


def test_regions_of_a_label_map():
    masks = region_masks(LABEL, [[1, 2, 3], [2, 3], [3]])
    assert masks[:, 0].tolist() == [[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0]]


def test_pairs_for_metrics():
    output = [{"pred": PRED, "label": LABEL}]
    (pred,), (label,) = compared_labels([[1, 2, 3], [2]])(output)
    assert pred.tolist() == [[[0, 1, 1, 1, 0, 0]], [[0, 1, 1, 0, 0, 0]]]
    assert label.tolist() == [[[0, 1, 1, 1, 0, 0]], [[0, 0, 1, 0, 0, 0]]]
    (pred,), (label,) = compared_labels()(output)
    assert pred.max() == 2
    assert label.max() == 3
