# SPDX-License-Identifier: Apache-2.0
"""``label_metrics`` against MONAI's and MedPy's metrics, which are exact but slow, on masks of every shape."""

from __future__ import annotations

import tracemalloc
import warnings
from unittest import mock

import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary
from monai.data import MetaTensor
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from monai.networks.utils import one_hot
from scipy.spatial import cKDTree

from monai_ext.metrics import label_metrics, surfaces

ALL = ("dice", "hd95", "iou", "assd")


def monai_metrics(pred: np.ndarray, label: np.ndarray, num_classes: int, spacing: tuple[float, ...]) -> dict:
    """MONAI's values, with the documented ones for a class that only one map holds (MONAI: nan, or Dice 0)."""
    y_pred, y = (one_hot(torch.from_numpy(m.astype(np.int64))[None, None], num_classes) for m in (pred, label))
    quantile = torch.quantile  # in MONAI's float32 the rank is rounded: 2.674995 instead of 2.675
    exact = mock.patch("torch.quantile", lambda values, q: quantile(values.double(), q).float())
    with exact, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty masks
        expected = {
            "dice": compute_dice(y_pred, y, include_background=False, ignore_empty=False),
            "iou": compute_iou(y_pred, y, include_background=False, ignore_empty=False),
            "hd95": compute_hausdorff_distance(y_pred, y, percentile=95, spacing=spacing),
            "assd": compute_average_surface_distance(y_pred, y, symmetric=True, spacing=spacing),
        }
    in_pred, in_label = y_pred[:, 1:].flatten(2).any(dim=2), y[:, 1:].flatten(2).any(dim=2)
    for name, values in expected.items():
        values[in_pred != in_label] = 0.0 if name in ("dice", "iou") else torch.inf
        values[~in_pred & ~in_label] = torch.nan
    return {name: values[0].numpy() for name, values in expected.items()}


def medpy_metrics(pred: np.ndarray, label: np.ndarray, num_classes: int) -> dict:
    """MedPy's values, with TransUNet's for empty masks."""
    rows = []
    for index in range(1, num_classes):
        p, q = pred == index, label == index
        if p.any() and q.any():
            rows.append((binary.dc(p, q), binary.hd95(p, q), binary.jc(p, q), binary.assd(p, q)))
        else:
            rows.append((1.0, 0.0, 1.0, 0.0) if p.any() else (0.0, 0.0, 0.0, 0.0))
    return dict(zip(ALL, np.array(rows).T, strict=True))


def assert_equal(found: dict, expected: dict, tolerance: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


@st.composite
def two_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Noise, or blocks as smooth as organs, from empty to full, the prediction at times a shifted copy."""
    ndim = draw(st.integers(2, 3))
    shape = tuple(draw(st.lists(st.integers(1, 9 if ndim == 3 else 14), min_size=ndim, max_size=ndim)))
    num_classes = draw(st.integers(2, 4))
    coarse = draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps = []
    for _ in range(2):
        noise = rng.integers(1, num_classes, size=shape)
        noise *= rng.random(shape) < draw(st.sampled_from([0, 0.05, 0.5, 1]))
        blocks = noise[np.ix_(*(np.arange(n) // coarse for n in shape))]
        maps.append(blocks.astype(draw(st.sampled_from([np.uint8, np.int16, np.int64]))))
    if draw(st.booleans()):
        maps[0] = np.roll(maps[1], draw(st.integers(0, 2)), axis=draw(st.integers(0, ndim - 1)))
    return maps[0], maps[1], num_classes


class TestEqualToMonai:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(two_maps(), st.lists(st.floats(0.3, 5), min_size=3, max_size=3))
    def test_random_masks(self, maps, spacing):
        pred, label, num_classes = maps
        voxel = tuple(spacing[: label.ndim])
        found = label_metrics(pred, label, num_classes, voxel, metrics=ALL)
        assert_equal(found, monai_metrics(pred, label, num_classes, voxel))

    def test_many_classes(self):
        rng = np.random.default_rng(0)
        label = rng.integers(0, 104, size=(6, 6, 6))[np.ix_(*[np.arange(18) // 3] * 3)]
        pred = np.where(rng.random(label.shape) < 0.2, rng.integers(0, 104, size=label.shape), label)
        found = label_metrics(pred, label, 104, (0.7, 0.7, 5.0), metrics=ALL)
        assert_equal(found, monai_metrics(pred, label, 104, (0.7, 0.7, 5.0)))

    def test_stray_voxels_in_opposite_corners(self):
        label = np.zeros((60, 50, 40), dtype=np.uint8)
        label[20:30, 20:30, 10:20], label[35:45, 30:40, 25:30] = 1, 2
        pred = np.roll(label, 1, axis=0)
        pred[0, 0, 0] = pred[-1, -1, -1] = 1
        pred[0, 0, 1] = pred[-1, -1, -2] = 2
        found = label_metrics(pred, label, 3, (0.8, 0.8, 3.0), metrics=ALL)
        assert_equal(found, monai_metrics(pred, label, 3, (0.8, 0.8, 3.0)))


def monai_surface_dice(pred, label, num_classes, spacing, tolerances, use_subvoxels) -> np.ndarray:
    y_pred, y = (one_hot(torch.from_numpy(m.astype(np.int64))[None, None], num_classes) for m in (pred, label))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty masks
        return compute_surface_dice(y_pred, y, list(tolerances), spacing=list(spacing), use_subvoxels=use_subvoxels)[
            0
        ].numpy()


TOLERANCES = st.lists(st.floats(0.2, 12), min_size=3, max_size=3)


class TestNormalisedSurfaceDistance:
    @pytest.mark.parametrize(("convention", "between_voxels"), [("monai", False), ("deepmind", True)])
    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(two_maps(), st.lists(st.floats(0.3, 5), min_size=3, max_size=3), TOLERANCES)
    def test_monai(self, convention, between_voxels, maps, spacing, tolerances):
        pred, label, num_classes = maps
        voxel, within = tuple(spacing[: label.ndim]), tolerances[: num_classes - 1]
        found = label_metrics(pred, label, num_classes, voxel, convention, tolerances=within)["nsd"]
        expected = monai_surface_dice(pred, label, num_classes, voxel, within, between_voxels)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(two_maps(), st.lists(st.floats(0.3, 5), min_size=3, max_size=3), TOLERANCES)
    def test_surface_distance(self, maps, spacing, tolerances):
        pred, label, num_classes = maps
        voxel, within = tuple(spacing[: label.ndim]), tolerances[: num_classes - 1]
        found = label_metrics(pred, label, num_classes, voxel, "deepmind", ("nsd", "hd95", "assd"), within)
        for index in range(1, num_classes):
            masks = label == index, pred == index
            if not all(mask.any() for mask in masks):
                continue  # the package has no name for infinity in NumPy 2
            distances = surface_distance.compute_surface_distances(*masks, voxel)
            areas = [distances[f"surfel_areas_{side}"].sum() for side in ("gt", "pred")]
            means = surface_distance.compute_average_surface_distance(distances)
            expected = {
                "nsd": surface_distance.compute_surface_dice_at_tolerance(distances, within[index - 1]),
                "hd95": surface_distance.compute_robust_hausdorff(distances, 95),
                "assd": np.average(means, weights=areas),
            }
            for name, value in expected.items():
                np.testing.assert_allclose(found[name][index - 1], value, rtol=1e-6, atol=1e-6, err_msg=name)

    @pytest.mark.parametrize("layout", [np.asfortranarray, lambda m: np.moveaxis(np.moveaxis(m, 2, 0).copy(), 0, 2)])
    @pytest.mark.parametrize("convention", ["monai", "deepmind"])
    def test_memory_layouts(self, layout, convention):
        """The table of areas is not the same for all axes: it must not see the order in memory."""
        rng = np.random.default_rng(5)
        pred, label = rng.integers(0, 3, size=(2, 7, 6, 5), dtype=np.uint8)
        given = (3, (0.7, 1.9, 4.1), convention)
        expected = label_metrics(pred, label, *given, tolerances=1.0)
        assert_equal(label_metrics(layout(pred), layout(label), *given, tolerances=1.0), expected, 1e-12)

    @pytest.mark.parametrize("voxels", [1, 40, 200])
    def test_slabs_do_not_show(self, voxels, monkeypatch):
        rng = np.random.default_rng(6)
        pred, label = rng.integers(0, 3, size=(2, 7, 6, 5), dtype=np.uint8)
        expected = label_metrics(pred, label, 3, (0.7, 1.9, 4.1), "deepmind", tolerances=1.0)
        monkeypatch.setattr(surfaces, "SLAB_VOXELS", voxels)
        assert_equal(label_metrics(pred, label, 3, (0.7, 1.9, 4.1), "deepmind", tolerances=1.0), expected, 0)

    @pytest.mark.parametrize("convention", ["monai", "deepmind"])
    def test_by_hand(self, convention):
        label = np.zeros((40, 20), dtype=np.uint8)
        label[5:15, 5:15] = 1
        pred = np.roll(label, 2, axis=1)
        # ties count: two pixels of 0.8 are within 1.6, whatever rounding says
        assert label_metrics(pred, label, 2, (1.0, 0.8), convention, "nsd", tolerances=1.6)["nsd"] == 1
        assert label_metrics(pred, label, 2, (1.0, 0.8), convention, "nsd", tolerances=1.5)["nsd"] < 1
        assert label_metrics(pred * 0, label, 2, convention=convention, tolerances=9)["nsd"] == 0
        assert label_metrics(pred, label * 0, 2, convention=convention, tolerances=9)["nsd"] == 0
        assert np.isnan(label_metrics(pred * 0, label * 0, 2, convention=convention, tolerances=9)["nsd"])

    def test_each_class_has_its_own(self):
        label = np.zeros((30, 30), dtype=np.uint8)
        label[3:10, 3:10], label[16:25, 16:25] = 1, 2
        pred = np.roll(label, 3, axis=0)
        both = label_metrics(pred, label, 3, tolerances=(2.0, 4.0))["nsd"]
        assert both[0] == label_metrics(pred, label, 3, tolerances=2.0)["nsd"][0] < 1
        assert both[1] == 1


class TestDistances:
    """Near places look up their neighbours, far ones ask a tree: one distance, whoever answers."""

    @pytest.mark.parametrize("voxel", [(1.0, 1.0, 1.0), (0.8, 0.8, 3.0), (5.0, 0.4, 0.4), (0.5, 40.0, 1.0), (1.0, 0.3)])
    @pytest.mark.parametrize("shift", [0, 1, 9])
    def test_equal_to_a_tree(self, voxel, shift):
        rng = np.random.default_rng(shift)
        shape = (31, 30, 29)[: len(voxel)]
        one = np.flatnonzero(rng.random(shape) < 0.05)
        other = np.flatnonzero(np.roll(rng.random(shape) < (0.2, 0.05, 0.002)[shift % 7], shift, axis=0))
        points = [np.stack(np.unravel_index(index, shape), axis=1) * voxel for index in (one, other)]
        found = surfaces.Distances(shape, np.array(voxel)).between(one, other)
        for distances, (source, target) in zip(found, (points, points[::-1])):
            np.testing.assert_allclose(distances, cKDTree(target).query(source)[0], rtol=1e-12, atol=1e-12)

    def test_both_ways_are_taken(self, monkeypatch):
        """A good prediction with one stray voxel: most are near, one is far."""
        asked = []
        tree = surfaces.cKDTree

        def count(points, **options):
            asked.append(len(points))
            return tree(points, **options)

        monkeypatch.setattr(surfaces, "cKDTree", count)
        label = np.zeros((60, 60, 60), dtype=np.uint8)
        label[10:40, 10:40, 10:40] = 1
        near = np.roll(label, 1, axis=0)
        label_metrics(near, label, 2)
        assert asked == []
        far = near.copy()
        far[-1, -1, -1] = 1
        hd95, largest = (label_metrics(p, label, 2, metrics=("hd95", "assd")) for p in (near, far))
        assert len(asked) == 1 and largest["assd"] > hd95["assd"]
        label_metrics(np.roll(label, 15, axis=2), label, 2)
        assert len(asked) == 3


class TestVolume:
    def test_millilitres_and_percent(self):
        label = np.zeros((20, 20, 20), dtype=np.uint8)
        label[:10, :10, :10], label[15:, 15:, 15:] = 1, 2
        pred = label.copy()
        pred[:10, :10, 9], pred[pred == 2], pred[0, 0, 19] = 0, 0, 3
        for convention in ("monai", "transunet", "deepmind"):
            found = label_metrics(pred, label, 5, (0.5, 2.0, 3.0), convention)["volume_ml"]
            expected = [[2.7, 0, 0.003, 0], [3, 0.375, 0, 0], [-0.3, -0.375, 0.003, 0], [-10, -100, np.inf, np.nan]]
            np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_slices_have_none(self):
        with pytest.raises(ValueError, match=r"^monai_ext: metrics: 'volume_ml' needs maps \(H, W, D\)"):
            label_metrics(MAP[0], MAP[0], 2, metrics="volume_ml")


class TestEqualToMedpy:
    @settings(max_examples=1500, deadline=None, derandomize=True)
    @given(two_maps())
    def test_random_masks(self, maps):
        found = label_metrics(*maps, spacing=2.5, convention="transunet", metrics=ALL)
        assert_equal(found, medpy_metrics(*maps), tolerance=1e-12)

    def test_many_classes(self):
        rng = np.random.default_rng(1)
        label = rng.integers(0, 90, size=(6, 6, 6))[np.ix_(*[np.arange(18) // 3] * 3)]
        pred = np.where(rng.random(label.shape) < 0.2, rng.integers(0, 104, size=label.shape), label)
        found = label_metrics(pred, label, 104, convention="transunet", metrics=ALL)
        assert_equal(found, medpy_metrics(pred, label, 104), tolerance=1e-12)


class TestByHand:
    def test_two_voxels(self):
        pred, label = np.zeros((2, 9, 9), dtype=np.uint8)
        pred[1, 1], label[4, 5] = 1, 1
        found = label_metrics(pred, label, 2, spacing=(2.0, 0.5), metrics=ALL)
        assert found["dice"] == [0.0] and found["iou"] == [0.0]
        assert found["hd95"] == found["assd"] == [np.hypot(6.0, 2.0)]
        assert label_metrics(pred, label, 2, (2.0, 0.5), "transunet")["hd95"] == [5.0]

    def test_conventions_differ_in_the_percentile(self):
        label = np.zeros((40, 21), dtype=np.uint8)
        label[:, 0] = 1
        pred = label.copy()
        pred[:3, 10] = 1
        # there: 40 zeros, three 10s: rank 0.95 * 42 = 39.9 lies between a 0 and a 10; back: zeros
        assert label_metrics(pred, label, 2)["hd95"] == pytest.approx([9.0])
        # pooled: 80 zeros, three 10s: rank 0.95 * 82 = 77.9
        assert label_metrics(pred, label, 2, convention="transunet")["hd95"] == [0.0]

    @pytest.mark.parametrize(
        ("convention", "missed", "invented", "absent"),
        [
            ("monai", (0.0, np.inf, 0.0, np.inf), (0.0, np.inf, 0.0, np.inf), (np.nan,) * 4),
            ("transunet", (0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
        ],
    )
    def test_empty_masks(self, convention, missed, invented, absent):
        pred, label = np.zeros((2, 4, 5, 6), dtype=np.uint8)
        label[1:3, 1:3, 1:3], pred[0, 0, 0] = 1, 2
        found = label_metrics(pred, label, 4, convention=convention, metrics=ALL)
        np.testing.assert_array_equal(np.array([found[name] for name in ALL]).T, [missed, invented, absent])

    def test_all_empty_and_all_full(self):
        empty, full = np.zeros((3, 4, 5), dtype=np.uint8), np.ones((3, 4, 5), dtype=np.uint8)
        assert all(np.isnan(values).all() for values in label_metrics(empty, empty, 3, metrics=ALL).values())
        found = label_metrics(full, full, 2, metrics=ALL)
        assert {name: float(values[0]) for name, values in found.items()} == {"dice": 1, "hd95": 0, "iou": 1, "assd": 0}

    def test_a_missed_organ_cannot_improve_the_mean(self):
        label = np.zeros((8, 8), dtype=np.uint8)
        label[:3], label[5:] = 1, 2
        good = np.roll(label, 1, axis=1)
        good[0, 0] = 0
        worse = np.where(good == 2, 0, good)
        assert label_metrics(worse, label, 3)["hd95"].mean() > label_metrics(good, label, 3)["hd95"].mean()

    def test_order_and_choice_of_metrics(self):
        label = np.eye(5, dtype=np.uint8)
        assert list(label_metrics(label, label, 2)) == ["dice", "hd95", "assd"]
        assert list(label_metrics(label, label, 2, tolerances=1)) == ["dice", "hd95", "nsd", "assd"]
        assert list(label_metrics(label[..., None], label[..., None], 2)) == ["dice", "hd95", "assd", "volume_ml"]
        assert list(label_metrics(label, label, 2, metrics=["assd", "dice"])) == ["assd", "dice"]
        assert list(label_metrics(label, label, 2, metrics="iou")) == ["iou"]


class TestInputs:
    @pytest.fixture
    def maps(self):
        rng = np.random.default_rng(2)
        label = rng.integers(0, 4, size=(5, 4, 3)).repeat(3, 0).repeat(3, 1).repeat(2, 2)
        return np.where(rng.random(label.shape) < 0.1, 0, label), label

    @pytest.fixture
    def expected(self, maps):
        return label_metrics(*maps, num_classes=4, spacing=(1.0, 2.0, 3.0), metrics=ALL)

    @pytest.mark.parametrize(
        "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint64, np.int64, np.dtype(">i2")]
    )
    def test_integer_dtypes(self, maps, expected, dtype):
        found = label_metrics(maps[0].astype(dtype), maps[1].astype(np.uint8), 4, (1.0, 2.0, 3.0), metrics=ALL)
        assert_equal(found, expected, tolerance=0)

    @pytest.mark.parametrize("wrap", [torch.from_numpy, lambda m: MetaTensor(torch.from_numpy(m))])
    def test_tensors(self, maps, expected, wrap):
        found = label_metrics(wrap(maps[0]), wrap(maps[1]), 4, torch.tensor([1.0, 2.0, 3.0]), metrics=ALL)
        assert_equal(found, expected, tolerance=0)

    def test_booleans(self, maps):
        masks = [m == 2 for m in maps]
        expected = label_metrics(*(m.astype(np.uint8) for m in masks), num_classes=2, metrics=ALL)
        assert_equal(label_metrics(*masks, num_classes=2, metrics=ALL), expected, tolerance=0)
        assert masks[0].dtype == bool

    @pytest.mark.parametrize("layout", [np.asfortranarray, lambda m: m[::-1, :, ::-1][::-1, :, ::-1].copy("K")])
    def test_memory_layouts(self, maps, expected, layout):
        for pred, label in ((layout(maps[0]), layout(maps[1])), (layout(maps[0]), maps[1]), (maps[0], layout(maps[1]))):
            assert_equal(label_metrics(pred, label, 4, (1.0, 2.0, 3.0), metrics=ALL), expected, tolerance=1e-13)

    def test_views_and_read_only_maps(self, maps, expected):
        wide = [np.pad(m, 2)[2:-2, 2:-2, 2:-2] for m in maps]
        flipped = [m[::-1] for m in maps]
        for m in wide:
            m.flags.writeable = False
        assert_equal(label_metrics(*wide, 4, (1.0, 2.0, 3.0), metrics=ALL), expected, tolerance=1e-13)
        assert_equal(label_metrics(*flipped, 4, (1.0, 2.0, 3.0), metrics=ALL), expected, tolerance=1e-13)

    @pytest.mark.parametrize("voxels", [1, 40, 200])
    def test_slabs_do_not_show(self, maps, expected, voxels, monkeypatch):
        monkeypatch.setattr(surfaces, "SLAB_VOXELS", voxels)
        assert_equal(label_metrics(*maps, 4, (1.0, 2.0, 3.0), metrics=ALL), expected, tolerance=0)

    def test_inputs_stay_as_they_are(self, maps):
        before = [m.copy() for m in maps]
        label_metrics(*maps, num_classes=4)
        assert all((m == b).all() for m, b in zip(maps, before, strict=True))

    def test_memory_does_not_grow_with_classes(self):
        # 103 boxes and, for each class, stray voxels in two corners; 4 MiB a map
        label = np.zeros((256, 256, 64), dtype=np.uint8)
        for index in range(1, 104):
            i, j = divmod(index, 11)
            label[i * 25 : i * 25 + 20, j * 23 : j * 23 + 18, 20:30] = index
        pred = np.roll(label, 2, axis=2)
        pred[0, 0, :52], pred[-1, -1, -51:] = np.arange(1, 53), np.arange(53, 104)
        tracemalloc.start()
        found = label_metrics(pred, label, 104, metrics=ALL)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * label.nbytes
        assert np.isfinite(found["hd95"]).all()


MAP = np.zeros((4, 5, 6), dtype=np.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred": MAP.astype(np.float32)}, "pred must hold integer labels, got dtype float32"),
        ({"label": torch.zeros(4, 5, 6)}, "label must hold integer labels, got dtype float32"),
        ({"pred": MAP[0]}, r"one shape, got \(5, 6\) and \(4, 5, 6\)"),
        ({"pred": MAP[None], "label": MAP[None]}, r"got shape \(1, 4, 5, 6\)"),
        ({"pred": MAP[:0], "label": MAP[:0]}, r"got shape \(0, 5, 6\)"),
        ({"pred": MAP + 3}, r"pred must hold labels 0\.\.2 \(num_classes=3\), got 3 to 3"),
        ({"label": MAP.astype(np.int8) - 1}, r"label must hold labels 0\.\.2 \(num_classes=3\), got -1 to -1"),
        ({"num_classes": 1}, "at least 2, got 1"),
        ({"spacing": (1.0, 1.0)}, r"3 of them, one for each axis; got \(1.0, 1.0\)"),
        ({"spacing": (1.0, 0.0, 1.0)}, "positive"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "positive"),
        ({"spacing": -2.0}, "positive"),
        ({"convention": "medpy"}, "'monai', 'transunet'; got 'medpy'"),
        ({"metrics": ("dice", "hd")}, "'iou', 'assd'; got 'hd'"),
        ({"metrics": "nsd"}, "'nsd' needs tolerances"),
        *(
            ({"tolerances": t}, r"tolerances must be one positive number in mm, or 2 of them, .*; got")
            for t in (
                0,
                -1.0,
                float("nan"),
                float("inf"),
                (2.0, 0.0),
                (1.0, 2.0, 3.0),
                (),
                "wide",
                (1.0, "x"),
                [[1.0, 2.0]],
            )
        ),
        ({"tolerances": 2.0, "convention": "transunet"}, "'transunet' has no NSD"),
    ],
)
def test_errors_say_what_was_found(change, message):
    with pytest.raises(ValueError, match=message):
        label_metrics(**({"pred": MAP, "label": MAP, "num_classes": 3} | change))
