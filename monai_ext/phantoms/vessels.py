# SPDX-License-Identifier: Apache-2.0
"""Fundus phantom: the retina's vessels around the optic disc."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from monai_ext.phantoms.drawing import Outline, PictureCase, Sheet, picture_rng
from monai_ext.phantoms.solids import Array

__all__ = ["vessel_case"]

FINEST = 0.6  # radius in units of the thinnest vessel that is drawn
STEP = 6.0  # units from point to point along a vessel
MOST_BRANCHES = 16

# colours of what is seen, and shares of the light that is absorbed by what lies above it
ORANGE, RED, DISC, EXUDATE, REFLEX, HAZE, ARTERY, VEIN, BLOOD = np.array(
    [
        [0.86, 0.50, 0.24],
        [0.72, 0.30, 0.14],
        [0.97, 0.80, 0.55],
        [0.95, 0.85, 0.50],
        [1.00, 0.80, 0.50],
        [0.90, 0.75, 0.50],
        [0.16, 0.48, 0.42],
        [0.30, 0.66, 0.55],
        [0.45, 0.75, 0.60],
    ],
    np.float32,
)[..., None, None]  # channels first


@dataclass
class Branch:
    """A vessel to be grown: where from, which way, how wide."""

    at: NDArray[np.float64]
    heading: float
    radius: float
    pull: float  # towards the heading at which it arches around the macula, radians per unit
    generation: int = 0


@dataclass(frozen=True)
class View:
    """The round part of the retina that is seen."""

    centre: NDArray[np.float64]
    reach: float
    macula: NDArray[np.float64]


def _grow(
    rng: np.random.Generator,
    sheet: Sheet,
    first: Branch,
    field: View,
    distance: Array,
    reflexes: Array | None = None,
    thin: float = 1.0,
) -> None:
    """Draw a vessel and its branches: it ends where it leaves the view, meets its like or comes near the macula.

    Args:
        field: centre and radius of what is seen, and place of the macula.
        distance: lowered to the distance to the vessels.
        reflexes: the same for the bright streak along the middle of the wider ones.
        thin: factor of all radii.
    """
    todo, drawn = [first], 0
    while todo and drawn < MOST_BRANCHES:
        branch = todo.pop(0)
        at, heading, radius = branch.at.copy(), branch.heading, branch.radius
        points = [(*at, radius)]
        bend, open_end = 0.0, True
        for step in range(round(rng.uniform(22, 46) / STEP)):
            bend = 0.6 * bend + rng.normal(0, 0.08)
            heading += bend + STEP * branch.pull
            at = at + STEP * np.array([np.sin(heading), np.cos(heading)])
            radius *= 0.98
            points.append((*at, radius))
            row, column = (int(v * sheet.pixels) for v in at)
            seen = 0 <= row < sheet.size[0] and 0 <= column < sheet.size[1]
            met = seen and branch.generation > 0 and step > 1 and distance[row, column] < 1.2
            near = radius > 0.75 and np.hypot(*(at - field.macula)) < 16
            if met or near or not seen or np.hypot(*(at - field.centre)) > field.reach + 3:
                open_end = False
                break
        line = np.array(points)
        sheet.strokes(line[:, :2], thin * line[:, 2], distance)
        if reflexes is not None and line[0, 2] > 0.9:
            sheet.strokes(line[:, :2], thin * 0.28 * line[:, 2], reflexes)
        drawn += 1
        if not open_end:
            continue
        # Murray's law: the cubes of the daughters' radii add up to the mother's
        share = rng.uniform(0.12, 0.5)
        side = rng.choice([-1.0, 1.0])
        for part, turn, pull in (
            (1 - share, -0.35 * side * share, branch.pull * 0.95),
            (share, side * rng.uniform(0.5, 1.1), 0.0),
        ):
            child = radius * part ** (1 / 3)
            if child > FINEST:
                todo.append(Branch(at, heading + turn, child, pull, branch.generation + 1))


def _lesions(rng: np.random.Generator, sheet: Sheet, centre: NDArray[np.float64], reach: float) -> tuple[Array, Array]:
    """Cover of dark haemorrhages and of bright exudates."""
    dark, bright = np.zeros(sheet.size, np.float32), np.zeros(sheet.size, np.float32)
    for into, counts, largest in ((dark, [0, 3, 10, 25], 7.0), (bright, [0, 0, 6, 20], 4.0)):
        middle = centre + rng.normal(0, 0.3 * reach, 2)
        for _ in range(int(rng.choice(counts))):
            at = middle + rng.normal(0, 0.35 * reach, 2)
            radius = min(rng.gamma(1.6, 1.1) + 0.7, largest)
            spot = Outline(rng, at, radius, rng.uniform(1, 2.6), rng.uniform(0, np.pi), 0.15)
            box = sheet.around(spot)
            cover = sheet.cover(spot.distance(sheet.y[box], sheet.x[box]), 1.2) * np.float32(rng.uniform(0.4, 1))
            np.maximum(into[box], cover, out=into[box])
    return dark, bright


def vessel_case(seed: int, size: tuple[int, int] = (192, 256), thin: float = 1.0) -> PictureCase:
    """Make a fundus picture whose vessels are one object; the same seed and size give the same pixels.

    Arteries and veins leave the optic disc, arch around the macula and branch by Murray's law. The light is uneven,
    the choroid shines through with vessels of its own, out of focus; haemorrhages are as dark as veins, arteries have a
    bright reflex, and some pictures are hazy.

    Args:
        seed: not negative.
        size: height and width.
        thin: width of the vessels and of their edges, 1 for what a small picture can show.

    Examples::

        >>> case = vessel_case(0)
        >>> case.image.shape, int(case.objects.max()), case.kinds
        ((192, 256, 3), 1, (1,))
    """
    rng = picture_rng("vessels", seed, size)
    sheet = Sheet(size)
    middle = np.array([sheet.height, sheet.width]) / 2 + rng.normal(0, 2, 2)
    reach = rng.uniform(88, 95) if rng.random() < 0.7 else rng.uniform(100, 125)
    side = rng.choice([-1.0, 1.0])  # left or right eye: which way the macula lies
    disc = middle + np.array([rng.normal(0, 6), -side * rng.uniform(0.3, 0.62) * 95])
    macula = disc + np.array([rng.uniform(0, 8), side * rng.uniform(52, 64)])
    disc_radius = rng.uniform(8, 12)

    view = View(middle, reach, macula)
    arteries, veins = sheet.far(), sheet.far()
    reflexes = sheet.far()
    for up in (-1.0, 1.0):
        for temporal in (1.0, 0.0):
            for vein in (False, True):
                heading = up * (1.05 if temporal else 0.75) + rng.normal(0, 0.15) + (0.22 if vein else 0.0)
                along = side if temporal else -side
                pull = -up * along * rng.uniform(0.010, 0.016) if temporal else 0.0
                direction = np.arctan2(np.sin(heading), along * np.cos(heading))
                root = disc + rng.normal(0, 1.5, 2)
                radius = rng.uniform(1.45, 2.1) * (1.25 if vein else 1.0) * (1.0 if temporal else 0.8)
                first = Branch(root, float(direction), radius, pull)
                _grow(rng, sheet, first, view, veins if vein else arteries, None if vein else reflexes, thin)
    for toward in rng.uniform(-1.2, 1.2, rng.integers(1, 4)):  # short twigs to the macula
        heading = np.arctan2(np.sin(toward), side * np.cos(toward))
        _grow(rng, sheet, Branch(disc, float(heading), rng.uniform(0.7, 0.85), 0.0), view, arteries, thin=thin)

    redness = rng.uniform(0, 1)
    ground = ORANGE * (1 - redness) + RED * redness
    choroid = np.exp(-((sheet.noise(rng, 9) / 0.35) ** 2)) * rng.uniform(0, 0.9)
    shade = 1 + 0.07 * sheet.noise(rng, 22) + 0.03 * sheet.noise(rng, 2) - 0.16 * choroid
    image = ground * shade
    hollow = np.hypot(sheet.y - float(macula[0]), sheet.x - float(macula[1]))
    image *= 1 - rng.uniform(0.15, 0.55) * np.exp(-((hollow / rng.uniform(11, 19)) ** 2))
    away = Outline(rng, disc, disc_radius, rng.uniform(0.8, 1.0), 0.0, 0.02).distance(sheet.y, sheet.x)
    cup = sheet.cover(away + np.float32(disc_radius * rng.uniform(0.35, 0.7)), 4)
    pale = DISC * (1 + 0.12 * cup)
    image += sheet.cover(away, 3) * rng.uniform(0.6, 0.95) * (pale - image)
    image += 0.12 * np.exp(-np.clip(away, 0, None) / 14)

    dark, bright = _lesions(rng, sheet, middle, reach)
    image += 0.8 * bright * (EXUDATE - image)
    strength = rng.uniform(0.35, 0.95)
    image *= 1 - dark * rng.uniform(0.5, 1.1) * strength * BLOOD
    patchy = np.clip(1 + 0.25 * sheet.noise(rng, 25), 0.4, 1.2)
    for distance, absorbed in ((arteries, ARTERY), (veins, VEIN)):
        image *= 1 - sheet.cover(distance, 0.9 * thin) * strength * patchy * absorbed
    image += 0.16 * strength * rng.uniform(0.3, 1.0) * sheet.cover(reflexes, 0.8 * thin) * REFLEX

    away_from_middle = np.hypot(sheet.y - float(middle[0]), sheet.x - float(middle[1]))
    slope = rng.normal(0, 0.28, 2).tolist()
    light = 1 + (slope[0] * (sheet.y - float(middle[0])) + slope[1] * (sheet.x - float(middle[1]))) / reach
    light = light * (1.08 - rng.uniform(0.2, 0.6) * (away_from_middle / reach) ** 2) + 0.09 * sheet.noise(rng, 35)
    image *= np.clip(light, 0.12, 1.6) * rng.uniform(0.65, 1.15)
    haze = rng.uniform(0, 0.2) * np.clip(0.6 + 0.5 * sheet.noise(rng, 30), 0, None)
    image += haze * HAZE
    inside = sheet.cover(away_from_middle - reach, 2)
    blur = rng.uniform(0.25, 0.7) * max(thin * sheet.pixels, 1)
    image = gaussian_filter(image * inside, (0, blur, blur))
    image += rng.uniform(0.006, 0.022) * rng.standard_normal(image.shape, dtype=np.float32) * inside
    sheet.objects[(np.minimum(arteries, veins) < 0) & (inside > 0.5)] = 1
    return sheet.case(np.moveaxis(image, 0, -1), (1,))
