# SPDX-License-Identifier: Apache-2.0
"""Picture phantoms: reproducible, well labelled at any size, and not to be solved by a threshold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.picture_honesty import GENERATORS, channels, cluster_baseline, threshold_baseline, threshold_dice
from monai_ext.phantoms import (
    PictureCase,
    breast_nodule_case,
    gland_case,
    nuclei_case,
    polyp_case,
    skin_lesion_case,
    vessel_case,
)
from monai_ext.phantoms.drawing import Outline, Sheet, number_objects

SEEDS = range(12)
NAMES = tuple(GENERATORS)
#: smallest and largest share of a picture that is foreground, and number of objects
PLAUSIBLE = {
    "skin lesion": (0.005, 0.45, 1, 1),
    "polyp": (0.005, 0.35, 1, 1),
    "breast nodule": (0.002, 0.20, 1, 1),
    "glands": (0.03, 0.7, 3, 11),
    "nuclei, H&E": (0.02, 0.65, 15, 160),
    "nuclei, fluorescence": (0.01, 0.65, 5, 90),
    "vessels": (0.02, 0.15, 1, 1),
}


@pytest.fixture(scope="module")
def cases() -> dict[str, list[PictureCase]]:
    """The same twelve seeds of every generator at a size of its own."""
    return {name: [generator(seed, (128, 160)) for seed in SEEDS] for name, (generator, _) in GENERATORS.items()}


@pytest.mark.parametrize("name", NAMES)
class TestEveryGenerator:
    def test_same_seed_same_pixels(self, cases: dict[str, list[PictureCase]], name: str) -> None:
        again = GENERATORS[name][0](3, (128, 160))
        np.testing.assert_array_equal(again.image, cases[name][3].image)
        np.testing.assert_array_equal(again.objects, cases[name][3].objects)
        assert again.kinds == cases[name][3].kinds

    def test_other_seed_other_picture(self, cases: dict[str, list[PictureCase]], name: str) -> None:
        made = cases[name]
        for one, other in pairwise(made):
            assert np.mean(one.image != other.image) > 0.5
            assert np.any(one.objects != other.objects)

    def test_objects_are_numbered_and_plausible(self, cases: dict[str, list[PictureCase]], name: str) -> None:
        least, most, fewest, many = PLAUSIBLE[name]
        for case in cases[name]:
            assert case.image.shape == (128, 160, 3)
            assert case.image.dtype == np.uint8
            assert case.objects.shape == (128, 160)
            assert case.objects.dtype == np.uint16
            numbers = np.unique(case.objects)
            np.testing.assert_array_equal(numbers, np.arange(len(numbers)))  # 0 is there, too
            assert case.kinds == (1,) * (len(numbers) - 1)
            assert fewest <= len(case.kinds) <= many
            assert least < np.mean(case.objects > 0) < most
            assert case.image.std() > 5
            assert np.bincount(case.objects.ravel()).min() >= 2

    def test_a_threshold_does_not_do(self, cases: dict[str, list[PictureCase]], name: str) -> None:
        made, limit = cases[name], GENERATORS[name][1]
        assert threshold_baseline(made[:6], made[6:]) < limit
        assert threshold_baseline(made[:6], made[6:], rank=True) < limit

    @pytest.mark.parametrize("size", [(48, 40), (100, 300), (257, 131)])
    def test_any_size(self, name: str, size: tuple[int, int]) -> None:
        case = GENERATORS[name][0](1, size)
        assert case.image.shape == (*size, 3)
        assert case.objects.shape == size
        assert case.objects.max() == len(case.kinds) >= 1

    def test_wrong_arguments(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"seed must not be negative, got -1\."):
            GENERATORS[name][0](-1)
        with pytest.raises(ValueError, match=r"size must be \(height, width\) of 16 pixels or more, got \(8, 100\)\."):
            GENERATORS[name][0](0, (8, 100))


class TestOptions:
    def test_default_size(self) -> None:
        for generator in (skin_lesion_case, polyp_case, breast_nodule_case, nuclei_case, gland_case, vessel_case):
            assert generator(0).image.shape == (192, 256, 3)

    def test_generators_draw_their_own_numbers(self) -> None:
        """Equal seeds do not put the lesion, the polyp and the nodule in the same place."""
        places = [np.argwhere(make(5, (96, 96)).objects == 1).mean(0) for make in (skin_lesion_case, polyp_case)]
        assert np.linalg.norm(places[0] - places[1]) > 3

    def test_polyps_of_two_kinds(self) -> None:
        one = [polyp_case(seed, (64, 64)) for seed in range(24)]
        two = [polyp_case(seed, (64, 64), two_kinds=True) for seed in range(24)]
        kinds = np.array([case.kinds[0] for case in two])
        assert set(kinds) == {1, 2}
        redness = []
        for case, other in zip(one, two):
            np.testing.assert_array_equal(case.image, other.image)
            assert case.kinds == (1,)
            red, green, _ = np.moveaxis(case.image.astype(float), -1, 0)
            share = red / (red + green + 1)
            redness.append(np.median(share[case.objects > 0]) - np.median(share[(case.objects == 0) & (red > 60)]))
        assert np.median(np.array(redness)[kinds == 2]) > np.median(np.array(redness)[kinds == 1])

    def test_nodules(self) -> None:
        assert breast_nodule_case(0, (96, 128), nodules=0).kinds == ()
        assert breast_nodule_case(0, (96, 128), nodules=0).objects.max() == 0
        for seed in range(6):
            assert breast_nodule_case(seed, (96, 128), malignant=seed % 2 == 1, nodules=3).kinds == (1, 1, 1)
        with pytest.raises(ValueError, match=r"nodules must be 0 to 3, got 4\."):
            breast_nodule_case(0, nodules=4)

    def test_behind_a_nodule(self) -> None:
        """It is brighter behind a benign nodule than behind a malignant one, in comparison with its neighbourhood."""
        contrast = {}
        for malignant in (False, True):
            found = []
            for seed in range(16):
                case = breast_nodule_case(seed, (128, 160), malignant=malignant)
                grey = case.image[..., 0].astype(float)
                rows, columns = np.nonzero(case.objects)
                left, right = np.quantile(columns, [0.25, 0.75]).astype(int)
                width = right - left + 1
                below = slice(rows.max() + 2, rows.max() + 22)
                band = grey[below]
                beside = np.concatenate([band[:, max(left - 2 * width, 0) : left - width], band[:, right + width :]], 1)
                found.append(band[:, left : right + 1].mean() - beside.mean())
            contrast[malignant] = np.mean(found)
        assert contrast[False] > contrast[True] + 10

    def test_malignant_outlines_are_longer(self) -> None:
        def roundness(case: PictureCase) -> float:
            mask = case.objects > 0
            edge = np.sum(mask[1:] != mask[:-1]) + np.sum(mask[:, 1:] != mask[:, :-1])
            return float(mask.sum() / edge**2)

        benign, malignant = (
            np.median([roundness(breast_nodule_case(seed, malignant=m)) for seed in range(6)]) for m in (False, True)
        )
        assert malignant < 0.75 * benign

    def test_stains(self) -> None:
        grey = nuclei_case(2, (96, 128), stain="fluorescence").image
        np.testing.assert_array_equal(grey[..., 0], grey[..., 1])
        np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
        assert np.any(nuclei_case(2, (96, 128)).image.std(-1) > 5)
        with pytest.raises(ValueError, match=r"stain must be one of hematoxylin, fluorescence, got 'giemsa'\."):
            nuclei_case(0, stain="giemsa")  # type: ignore[arg-type]

    def test_nuclei_touch(self) -> None:
        beside = 0
        for seed in range(6):
            objects = nuclei_case(seed).objects.astype(int)
            left, right = objects[:, :-1], objects[:, 1:]
            beside += np.sum((left != right) & (left > 0) & (right > 0))
        assert beside > 60

    def test_another_size_shows_the_same_lesion(self) -> None:
        small, large = (skin_lesion_case(4, size).objects > 0 for size in ((96, 128), (192, 256)))
        at = [np.argwhere(mask).mean(0) / mask.shape for mask in (small, large)]
        np.testing.assert_allclose(at[0], at[1], atol=0.03)
        assert small.mean() == pytest.approx(large.mean(), rel=0.15)


class TestPieces:
    def test_outline_is_a_circle_without_roughness(self) -> None:
        sheet = Sheet((64, 64))
        circle = Outline(np.random.default_rng(0), (96, 90), 40)
        exact = np.hypot(sheet.y - 96, sheet.x - 90) - 40
        np.testing.assert_allclose(circle.distance(sheet.y, sheet.x), exact, atol=1e-3)

    def test_ellipse_has_its_axes(self) -> None:
        ellipse = Outline(np.random.default_rng(0), (0, 0), 30, aspect=4, angle=np.pi / 2)
        np.testing.assert_allclose(ellipse.at([0.0, np.pi / 2]), [[0, 15], [60, 0]], atol=1e-3)

    def test_stroke_is_a_capsule(self) -> None:
        sheet = Sheet((192, 192))
        field = sheet.far()
        sheet.strokes([(50, 40), (50, 120)], [4, 4], field)
        along = np.clip(sheet.x, 40, 120)
        exact = np.hypot(sheet.y - 50, sheet.x - along) - 4
        near = exact < 2
        np.testing.assert_allclose(field[near], exact[near], atol=1e-4)
        assert field[~near].min() >= 2

    def test_numbers_without_gaps(self) -> None:
        objects, kept = number_objects(np.array([[0, 2, 2], [5, 7, 7]]), smallest=2)
        np.testing.assert_array_equal(objects, [[0, 1, 1], [0, 2, 2]])
        assert kept == [2, 7]


class TestBaselines:
    def test_threshold_finds_what_is_given_by_brightness(self) -> None:
        rng = np.random.default_rng(0)
        made = []
        for _ in range(4):
            truth = np.zeros((40, 40), np.uint16)
            truth[10:25, 8:30] = 1
            grey = np.where(truth, 150, 90) + rng.integers(-20, 21, truth.shape)
            made.append(PictureCase(np.repeat(grey[..., None], 3, -1).astype(np.uint8), truth, (1,)))
        assert threshold_baseline(made[:2], made[2:]) == 1
        assert threshold_baseline(made[:2], made[2:], rank=True) > 0.95
        assert cluster_baseline(made[0], (2,)) == 1

    def test_dice_of_every_level(self) -> None:
        rng = np.random.default_rng(1)
        image, truth = rng.integers(0, 256, (20, 20, 3), np.uint8), rng.random((20, 20)) < 0.3
        values = channels(image)
        table = threshold_dice(values, truth)
        for channel, level in ((0, 0), (1, 77), (2, 255), (4, 130)):
            for direction, mask in enumerate((values[channel] >= level, values[channel] < level)):
                expected = 2 * np.sum(mask & truth) / (mask.sum() + truth.sum())
                assert table[channel, direction, level] == pytest.approx(expected)
