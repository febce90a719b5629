# SPDX-License-Identifier: Apache-2.0
"""Histology phantom: glands of the colon in haematoxylin and eosin."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ext.phantoms.drawing import Cells, Outline, PictureCase, Sheet, picture_rng
from monai_ext.phantoms.nuclei import absorbed, paint_nuclei, scatter, stroma
from monai_ext.phantoms.solids import Array

__all__ = ["gland_case"]


def _gland(
    rng: np.random.Generator, sheet: Sheet, outline: Outline, number: int, look: dict[str, float], grains: list[Array]
) -> None:
    """Cytoplasm with mucus, a lumen, and a ring of nuclei at the base of the cells."""
    box = sheet.around(outline)
    y, x = sheet.y[box], sheet.x[box]
    chromatin, fine, coarse, clouds = grains
    distance = outline.distance(y, x)
    cover = sheet.cover(distance, 1.5)
    depth = -distance / np.float32(outline.reach)
    # the cells' borders run towards the lumen
    theta = np.arctan2(y - np.float32(outline.centre[0]), x - np.float32(outline.centre[1]))
    rays = np.cos(theta * np.float32(round(2 * np.pi * outline.reach / 6))) ** 8
    mucus = np.clip(look["mucus"] + 0.35 * coarse[box], 0, 1)
    eosin = look["eosin"] * (1 - 0.8 * mucus) + 0.12 * rays
    hematoxylin = look["blue"] * (0.35 + 0.5 * mucus) * (1 + 0.25 * fine[box]) + 0.05 * rays
    opening = look["lumen"] * rng.uniform(0.6, 1.3)
    lumen = sheet.cover((opening - depth) * outline.reach + 1.5 * coarse[box], 2)
    lumen *= np.float32(opening < 0.85)
    slime = np.clip(0.12 + 0.25 * clouds[box], 0, 0.6) * look["slime"]
    here = sheet.value[box]
    tissue = np.stack([hematoxylin, eosin, np.zeros_like(eosin)], -1)
    tissue += lumen[..., None] * (np.stack([0.6 * slime, 0.5 * slime, 0 * slime], -1) - tissue)
    here += cover[..., None] * (tissue - here)
    sheet.objects[box][distance < 0] = number
    n = max(round(2 * np.pi * outline.reach / (1.75 * look["nucleus"])), 6)
    theta0, jitter = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.12, (2, n))
    for row in range(2 if look["crowded"] > 0.6 else 1):
        angles = (theta0 + 2 * np.pi * (np.arange(n) + 0.5 * row + jitter[row]) / n) % (2 * np.pi) - np.pi
        base = outline.at(angles)
        inward = outline.centre - base
        inward /= np.hypot(*inward.T)[:, None]
        at = base + inward * (look["nucleus"] * (1.55 + 1.5 * row) + 1 + rng.normal(0, 0.5, n))[:, None]
        headings = np.arctan2(*inward.T) + rng.normal(0, 0.25, n)
        radii = look["nucleus"] * rng.uniform(0.8, 1.15, n)
        cells = Cells(rng, sheet, at, radii, rng.uniform(1.2, 2.1, n), headings)
        dark = look["dark"] * rng.uniform(0.7, 1.15, n)
        paint_nuclei(rng, sheet, cells, dark, np.full(n, look["pale"]), chromatin)


def gland_case(seed: int, size: tuple[int, int] = (192, 256)) -> PictureCase:
    """Make a picture of glands, each an object; the same seed and size give the same pixels.

    A gland is a ring of nuclei around pale, mucous or pink cells around a lumen; glands of one picture look alike,
    those of others more or less ordered, stained and open. The stroma between them has fibres and nuclei of its own,
    white tears and fat, so neither dark nor white tells a gland.

    Args:
        seed: not negative.
        size: height and width.

    Examples::

        >>> case = gland_case(0)
        >>> case.image.shape, len(case.kinds) == int(case.objects.max())
        ((192, 256, 3), True)
    """
    rng = picture_rng("glands", seed, size)
    sheet = Sheet(size)
    look = {
        "mucus": rng.uniform(0, 0.9),
        "eosin": rng.uniform(0.3, 0.8),
        "blue": rng.uniform(0.05, 0.4),
        "lumen": rng.uniform(0.45, 0.95),
        "slime": rng.uniform(0, 1.2),
        "nucleus": rng.uniform(2.2, 3.3),
        "crowded": rng.uniform(0, 1),
        "dark": rng.uniform(0.6, 1.3),
        "pale": rng.uniform(0, 0.55),
    }
    sheet.value[..., 1] = stroma(rng, sheet) * np.float32(rng.uniform(0.45, 0.95))
    sheet.value[..., 0] = rng.uniform(0.02, 0.45) * np.clip(1 + 0.6 * sheet.noise(rng, 12), 0, None)
    usual = rng.uniform(17, 32)
    wanted = int(rng.integers(4, 12))
    radii = np.sort(usual * np.exp(rng.normal(0, 0.25, wanted)))[::-1]
    wild = rng.choice([0.04, 0.09, 0.15])
    glands = [
        Outline(rng, (y, x), 0.88 * r, rng.uniform(1, 1.5), rng.uniform(0, np.pi), wild, (2, 6), 1.2)
        for y, x, r in scatter(rng, sheet, radii, 1.12, 30)
    ]

    # tears and fat: as white as a lumen, but nobody's
    vacuoles = rng.uniform(0, 1, (int(rng.choice([0, 3, 8, 16])), 2)) * (sheet.height, sheet.width)
    white: Array = np.zeros(sheet.size, np.float32)
    for at in vacuoles:
        fat = Outline(rng, at, rng.uniform(5, 15), rng.uniform(1, 1.4), rng.uniform(0, 6), 0.05)
        box = sheet.around(fat)
        np.maximum(white[box], sheet.cover(fat.distance(sheet.y[box], sheet.x[box]), 1.2), out=white[box])
    tears = np.abs(sheet.noise(rng, 20)) * 20 - rng.uniform(-1.5, 2.5) - 3 * (sheet.noise(rng, 40) - 0.8)
    np.maximum(white, sheet.cover(tears, 3), out=white)
    sheet.value *= 1 - 0.96 * white[..., None]

    grains = [sheet.noise(rng, sigma) for sigma in (1, 2, 4, 5)]
    count = int(rng.choice([60, 120, 200]) * min(sheet.width * sheet.height / 49152, 3))
    places = rng.uniform(0, 1, (count, 2)) * (sheet.height, sheet.width)
    places = places[sheet.at(white, places) < 0.3]
    n = len(places)
    long = rng.random(n) < 0.5  # fibroblasts; the others are lymphocytes
    aspects = np.where(long, rng.uniform(1.6, 3.5, n), rng.uniform(1, 1.3, n))
    cells = Cells(rng, sheet, places, rng.uniform(1.9, 3, n), aspects, rng.uniform(0, np.pi, n))
    paint_nuclei(rng, sheet, cells, look["dark"] * rng.uniform(0.7, 1.2, n), np.full(n, look["pale"]), grains[0])
    for number, outline in enumerate(glands, 1):
        _gland(rng, sheet, outline, number, look, grains)
    image = absorbed(rng, sheet.value)
    image = gaussian_filter(image, (rng.uniform(0.3, 0.9),) * 2 + (0,), truncate=3.0)
    image += np.float32(0.012) * rng.standard_normal(image.shape, dtype=np.float32)
    return sheet.case(image, (1,) * len(glands), smallest=60)
