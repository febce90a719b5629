# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ext.metrics import lesion_metrics

NAMES = ("true", "predicted", "found", "false", "f1")


def squares(*boxes, size=40):
    label = np.zeros((size, size), dtype=np.uint8)
    for row, column, side in boxes:
        label[row : row + side, column : column + side] = 1
    return label


def count(pred, label, match):
    found = lesion_metrics(pred, label, 2, match)
    assert tuple(found) == ("f1", "true", "predicted", "found", "false")
    assert all(values.dtype == np.float64 and values.shape == (1,) for values in found.values())
    return [float(found[name][0]) for name in NAMES]


class TestByHand:
    label = squares((2, 2, 8), (20, 20, 8))

    @pytest.mark.parametrize(
        ("pred", "iou", "half", "touch"),
        [
            (label, [2, 2, 2, 0, 1], [2, 2, 2, 0, 1], [2, 2, 2, 0, 1]),
            # 32 of 64 pixels: not more than half of the union, but half of the true one
            (squares((2, 2, 8)) * (np.arange(40) < 6), [2, 1, 0, 1, 0], [2, 1, 1, 0, 2 / 3], [2, 1, 1, 0, 2 / 3]),
            (squares((9, 9, 3)), [2, 1, 0, 1, 0], [2, 1, 0, 1, 0], [2, 1, 1, 0, 2 / 3]),
            # one over both: each true one is found, by one that is right
            (squares((0, 0, 35)), [2, 1, 0, 1, 0], [2, 1, 2, 0, 1], [2, 1, 2, 0, 1]),
            (squares((2, 2, 8), (20, 20, 8), (34, 3, 2)), [2, 3, 2, 1, 0.8], [2, 3, 2, 1, 0.8], [2, 3, 2, 1, 0.8]),
            (label * 0, [2, 0, 0, 0, 0], [2, 0, 0, 0, 0], [2, 0, 0, 0, 0]),
        ],
    )
    def test_rules(self, pred, iou, half, touch):
        for match, expected in (("iou", iou), ("half", half), ("touch", touch)):
            np.testing.assert_allclose(count(pred.astype(np.uint8), self.label, match), expected, err_msg=match)

    def test_nothing_there(self):
        empty = self.label * 0
        assert count(self.label, empty, "iou") == [0, 2, 0, 2, 0]
        np.testing.assert_array_equal(count(empty, empty, "touch"), [0, 0, 0, 0, np.nan])

    def test_corners_hang_together_and_classes_do_not(self):
        label = np.zeros((8, 8, 8), dtype=np.uint8)
        label[0, 0, 0] = label[1, 1, 1] = 1
        label[2, 2, 2] = 2
        found = lesion_metrics(torch.from_numpy(label), label, 4)
        assert found["true"].tolist() == found["found"].tolist() == [1, 1, 0]
        np.testing.assert_array_equal(found["f1"], [1, 1, np.nan])

    def test_iou_of_more_than_half_is_one_to_one(self):
        rng = np.random.default_rng(0)
        pred, label = (rng.random((2, 60, 60)) < 0.3).astype(np.uint8)
        found = lesion_metrics(np.where(rng.random(label.shape) < 0.9, label, pred), label, 2)
        assert found["predicted"] - found["false"] == found["found"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"match": "most"}, "'iou', 'half', 'touch'; got 'most'"),
        ({"num_classes": 1}, "at least 2, got 1"),
        ({"pred": squares(size=39)}, r"one shape, got \(39, 39\) and \(40, 40\)"),
        ({"pred": squares((0, 0, 3)) * 2}, "got 0 to 2"),
    ],
)
def test_errors_say_what_was_found(change, message):
    given = {"pred": squares((0, 0, 3)), "label": squares((0, 0, 3)), "num_classes": 2, "match": "iou"}
    with pytest.raises(ValueError, match=message):
        lesion_metrics(**given | change)
