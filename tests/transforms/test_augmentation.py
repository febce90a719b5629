# SPDX-License-Identifier: Apache-2.0
"""What the strong recipe adds to MONAI's transforms, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_ext.transforms import FOREGROUND_CLASS, RandTissueContrastd, RandViewd

BOTH = ["image", "label"]


def smooth_picture(shape, seed=0):
    return torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(seed).random(shape, np.float32), 2))[None]


@pytest.mark.parametrize(("shape", "size"), [((70, 45), (40, 50)), ((30, 26, 9), (20, 24, 12))])
def test_a_view_is_what_scipy_resamples(shape, size):
    image = smooth_picture(shape)
    label = (image > image.median()).byte()
    view = RandViewd(BOTH, size, ["bilinear", "nearest"], rotation=0.4, scale=(0.7, 1.4), shear=0.2, shift=0.1)
    for seed in range(5):
        start, matrix = view.set_random_state(seed=seed).draw(shape)
        seen = view.set_random_state(seed=seed)({"image": image, "label": label})
        middle = (np.array(size) - 1) / 2
        place = {"matrix": matrix, "offset": start + middle - matrix @ middle, "output_shape": size}
        low = float(image.min())
        expected = ndimage.affine_transform(image[0].numpy() - low, order=1, mode="grid-constant", **place) + low
        np.testing.assert_allclose(seen["image"][0].numpy(), expected, atol=2e-5)
        expected = ndimage.affine_transform(label[0].numpy(), order=0, mode="grid-constant", **place)
        assert seen["label"].dtype == torch.uint8
        assert (seen["label"][0].numpy() != expected).mean() < 0.002  # what lies half-way may go to either side


def test_a_plain_view_is_cut_and_padded():
    image = smooth_picture((70, 45)) + 3
    view = RandViewd(BOTH, (40, 50), ["bilinear", "nearest"], prob=0)
    starts = set()
    for seed in range(20):
        (row, column), matrix = view.set_random_state(seed=seed).draw((70, 45))
        assert matrix is None
        assert column == -2
        seen = view.set_random_state(seed=seed)({"image": image, "label": torch.ones(1, 70, 45)})
        inside = seen["image"][:, :, 2:47]
        assert torch.equal(inside, image[:, int(row) : int(row) + 40])
        # beyond the picture: its lowest value, and no class
        assert (seen["image"][:, :, :2] == image.min()).all()
        assert seen["label"].sum() == 40 * 45
        starts.add(int(row))
    assert min(starts) >= 0
    assert max(starts) <= 30
    assert len(starts) > 5  # anywhere in a larger picture
    same = {"image": image[:, :40, :40], "label": image[:, :40, :40]}
    assert torch.equal(RandViewd(BOTH, (40, 40), prob=0)(same)["image"], same["image"])


def test_a_share_of_views_is_cut_around_what_is_labelled():
    label = torch.zeros(1, 400, 400, dtype=torch.uint8)
    label[0, 300, 40] = 1
    view = RandViewd(["label"], (40, 40), "nearest", prob=0, foreground=0.5)
    hits = sum(bool(view.set_random_state(seed=seed)({"label": label})["label"].any()) for seed in range(300))
    assert 110 < hits < 190  # half, as chance alone finds it in 1 of 80
    view = RandViewd(["label"], (40, 40), "nearest", prob=0, foreground=1.0)
    assert not view({"label": torch.zeros(1, 400, 400)})["label"].any()


def test_channels_have_contrasts_of_their_own():
    lift = RandTissueContrastd("image", "label", num_classes=2, prob=1.0).set_random_state(seed=1)
    seen = lift({"image": torch.ones(2, 9, 9), "label": torch.ones(1, 9, 9)})["image"]
    assert seen[0, 4, 4] != seen[1, 4, 4]
    assert (seen[:, 2:-2, 2:-2].flatten(1).std(dim=1) < 1e-6).all()


def test_bending_moves_as_far_as_it_says_and_never_folds():
    rows = torch.arange(100.0).reshape(1, 100, 1).repeat(1, 1, 100) + 1
    view = RandViewd(["image"], (100, 100), bend=0.05)
    moved = []
    for seed in range(10):
        seen = view.set_random_state(seed=seed)({"image": rows})["image"][0, 10:-10, 10:-10]
        moved.append((seen - rows[0, 10:-10, 10:-10]).abs().max())
        assert (seen.diff(dim=0) > 0.2).all()
    assert 2 < max(moved) < 8  # a cubic goes a little beyond its points, which move 5


def test_a_view_says_what_is_wrong():
    with pytest.raises(ValueError, match="scale must be a range of positive numbers"):
        RandViewd(["image"], (4, 4), scale=(0, 1))
    with pytest.raises(ValueError, match="mode must be one of"):
        RandViewd(["image"], (4, 4), mode="cubic")
    with pytest.raises(ValueError, match="for a view of"):
        RandViewd(["image"], (4, 4))({"image": torch.zeros(1, 4, 4, 4)})


def test_contrast_is_of_classes_and_soft_at_their_borders():
    image = torch.full((1, 32, 32), 0.5)
    image[:, :, 10] = 0.0  # gas
    label = torch.zeros(1, 32, 32, dtype=torch.uint8)
    label[:, 4:14], label[:, 20:30] = 1, 2
    lift = RandTissueContrastd("image", "label", num_classes=3, factors=(-0.2, 0.8), prob=1.0)
    ratios = []
    for seed in range(40):
        seen = lift.set_random_state(seed=seed)({"image": image, "label": label})["image"]
        assert (seen[:, :3] == image[:, :3]).all()
        assert (seen[:, :, 10] == 0).all()
        first, second = float(seen[0, 9, 20]) / 0.5, float(seen[0, 25, 20]) / 0.5
        assert float(seen[0, 4, 20]) / 0.5 == pytest.approx(1 + (first - 1) * 2 / 3, abs=1e-5)
        ratios += [first, second]
        assert first != second
    assert min(ratios) >= 0.8
    assert max(ratios) <= 1.8
    assert max(ratios) > 1.4
    assert torch.equal(image, torch.where(torch.arange(32) == 10, 0.0, 0.5).expand(1, 32, 32))  # the input stays
    none = RandTissueContrastd("image", "label", num_classes=3, prob=0.0)
    assert torch.equal(none({"image": image, "label": label})["image"], image)
    with pytest.raises(ValueError, match="a range above -1"):
        RandTissueContrastd("image", "label", 3, factors=(-1, 1))


def test_contrast_leaves_values_above_the_classes():
    label = torch.full((1, 8, 8, 4), 200, dtype=torch.uint8)
    lift = RandTissueContrastd("image", "label", num_classes=3, prob=1.0)
    assert torch.equal(lift({"image": torch.ones(1, 8, 8, 4), "label": label})["image"], torch.ones(1, 8, 8, 4))


def test_views_around_places_that_an_index_names():
    """Each class as often as any other, however large it is; the index is used up."""
    label = torch.zeros(1, 60, 60, 30, dtype=torch.uint8)
    label[0, :20] = 1
    label[0, 50, 50, 25] = 2
    indices = [torch.nonzero(label.flatten() == value)[:, 0] for value in range(3)]
    view = RandViewd(["label"], (12, 12, 12), "nearest", prob=0, foreground=1.0, indices_key="where")
    rare = 0
    for seed in range(60):
        seen = view.set_random_state(seed=seed)({"label": label, "where": indices})
        assert seen.keys() == {"label"}
        assert seen["label"].any()
        rare += bool((seen["label"] == 2).any())
    assert 18 < rare < 42
    nothing = {"label": torch.zeros(1, 60, 60, 30), "where": [indices[0], [], []]}
    assert not view(nothing)["label"].any()


def test_a_view_shows_the_class_it_is_told_to():
    """In a corner of a volume, however it is turned and pushed; told to show none, it is cut anywhere."""
    label = torch.zeros(1, 60, 50, 12, dtype=torch.uint8)
    label[0, 20:26, 20:26] = 1
    label[0, 56:, :4, :4] = 2
    indices = [torch.nonzero(label.flatten() == value)[:, 0] for value in range(3)]
    plain = {"label": label, "where": indices}
    for prob in (0.0, 1.0):
        view = RandViewd(
            ["label"],
            (24, 24, 16),
            "nearest",
            0.35,
            (0.7, 1.4),
            0.1,
            0.5,
            0.04,
            prob,
            1.0,
            indices_key="where",
            tilt=0.2,
        )
        for seed in range(30):
            for shown in (1, 2):
                seen = view.set_random_state(seed=seed)({**plain, FOREGROUND_CLASS: shown})
                assert seen.keys() == {"label"}
                assert (seen["label"] == shown).any(), (prob, seed, shown)
        anywhere = [
            view.set_random_state(seed=seed)({**plain, FOREGROUND_CLASS: 0})["label"].any() for seed in range(40)
        ]
        assert not all(anywhere)  # though ``foreground`` is 1


def test_what_is_ignored_is_not_looked_for():
    label = torch.full((1, 90, 90), 255, dtype=torch.uint8)
    label[0, :, :60] = 0
    label[0, 5, 5] = 1
    view = RandViewd(["label"], (12, 12), "nearest", prob=0, foreground=1.0)
    assert all((view.set_random_state(seed=seed)({"label": label})["label"] == 1).any() for seed in range(8))


def test_a_tilted_view_is_what_scipy_resamples():
    image = smooth_picture((40, 34, 30))
    view = RandViewd(["image"], (20, 22, 18), rotation=0.4, scale=(0.8, 1.2), shift=0.6, tilt=0.3)
    turned = 0
    for seed in range(6):  # the last ones beyond the edges
        start, matrix = view.set_random_state(seed=seed).draw(image.shape[1:])
        seen = view.set_random_state(seed=seed)({"image": image})["image"]
        middle = (np.array([20, 22, 18]) - 1) / 2
        low = float(image.min())
        expected = ndimage.affine_transform(
            image[0].numpy() - low,
            matrix,
            start + middle - matrix @ middle,
            output_shape=(20, 22, 18),
            order=1,
            mode="grid-constant",
        )
        np.testing.assert_allclose(seen[0].numpy(), expected + low, atol=3e-5)
        turned += abs(matrix[0, 2]) > 0.05
    assert turned
