# SPDX-License-Identifier: Apache-2.0
"""Colonoscopy phantom: one polyp on the wall of a folded tube, lit from the endoscope's tip."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ext.phantoms.drawing import Outline, PictureCase, Sheet, picture_rng
from monai_ext.phantoms.solids import Array

__all__ = ["polyp_case"]

SMOOTH, LOBED = 1, 2
NARROW_BAND = np.array([[0.45, 0.25, 0.1], [0.1, 0.6, 0.2], [0.1, 0.5, 0.35]], np.float32)  # blue and green light only


def _tube(rng: np.random.Generator, sheet: Sheet) -> tuple[Array, Array]:
    """Height of the wall towards the viewer, and how much of the light gets there."""
    middle = np.array([sheet.height, sheet.width]) * rng.uniform(0.05, 0.95, 2)
    y, x = sheet.y - np.float32(middle[0]), sheet.x - np.float32(middle[1])
    theta = np.arctan2(y, x)
    # three bands of muscle draw the lumen into a triangle
    corners = 1 + rng.uniform(0.05, 0.2) * np.cos(3 * theta + np.float32(rng.uniform(0, 6.3)))
    radius = np.hypot(y, x) * corners * np.exp(np.float32(0.12) * sheet.noise(rng, 30)) + 1
    depth = np.log(radius / np.float32(12))
    phase = depth * np.float32(rng.uniform(1.4, 2.6)) + np.float32(0.16) * sheet.noise(rng, 18)
    phase += np.float32(rng.uniform(0, 1))
    place = phase - np.floor(phase)
    # a fold rises gently on the near side and drops where it hides what lies behind
    rise = np.where(place < 0.78, (place / 0.78) ** 3, ((1 - place) / 0.22) ** 1.5)
    share = np.clip(0.7 + 0.45 * sheet.noise(rng, 35), 0, 1.3)
    height = np.float32(rng.uniform(4, 8)) * rise * share * np.clip(radius / 60, 0, 1.2)
    light = np.clip((radius / np.float32(rng.uniform(25, 55))) ** np.float32(rng.uniform(1, 1.8)), 0.03, 1)
    light *= 1 - np.float32(0.45) * np.exp(-((place - 0.02) ** 2) / 0.006) * np.clip(share, 0, 1)
    return height.astype(np.float32), light.astype(np.float32)


def _shade(height: Array, sheet: Sheet, lamp: tuple[float, float]) -> tuple[Array, Array]:
    """Diffuse and mirrored light of a surface seen from above."""
    dy, dx = np.gradient(height * np.float32(sheet.pixels))
    nz = 1 / np.sqrt(1 + dy * dy + dx * dx)
    ly, lx = lamp
    lz = np.sqrt(1 - ly * ly - lx * lx)
    facing = (lz - ly * dy - lx * dx) * nz
    half = np.array([ly, lx, lz + 1]) / np.linalg.norm([ly, lx, lz + 1])
    mirror = np.clip((half[2] - half[0] * dy - half[1] * dx) * nz, 0, 1)
    return np.clip(facing, 0, 1).astype(np.float32), mirror.astype(np.float32)


def _bumps(rng: np.random.Generator, sheet: Sheet) -> tuple[Array, Array]:
    """Height of stool and bubbles that cling to the wall, and where the stool is."""
    height, stool = np.zeros(sheet.size, np.float32), np.zeros(sheet.size, np.float32)
    for _ in range(int(rng.choice([0, 0, 1, 3]))):
        at = rng.uniform(0.05, 0.95, 2) * (sheet.height, sheet.width)
        crumb = Outline(rng, at, rng.uniform(4, 17), rng.uniform(1, 2), rng.uniform(0, 6), 0.12)
        box = sheet.around(crumb, 4)
        inside = sheet.cover(crumb.distance(sheet.y[box], sheet.x[box]), 3)
        stool[box] = np.maximum(stool[box], inside)
    height += stool * (3 + 1.2 * sheet.noise(rng, 2.5))
    if rng.random() < 0.35:
        centre = rng.uniform(0.1, 0.9, 2) * (sheet.height, sheet.width)
        for _ in range(rng.integers(4, 18)):
            radius = rng.gamma(3, 0.8) + 1
            bubble = Outline(rng, centre + rng.normal(0, 18, 2), radius)
            box = sheet.around(bubble)
            t = np.clip(-bubble.distance(sheet.y[box], sheet.x[box]) / radius, 0, 1)
            height[box] = np.maximum(height[box], 0.8 * radius * np.sqrt(1 - (1 - t) ** 2))
    return height, stool


def polyp_case(seed: int, size: tuple[int, int] = (192, 256), two_kinds: bool = False) -> PictureCase:
    """Make a colonoscopy picture with one polyp; the same seed and size give the same pixels.

    The wall of the colon, with its folds and vessels, is a height field lit from the endoscope: it darkens towards the
    lumen and mirrors the lamp where it is wet. The polyp is a dome on it, of nearly the same colour, on which the
    wall's vessels end. Stool and bubbles cling to some walls; some pictures show narrow-band light.

    Args:
        seed: not negative.
        size: height and width.
        two_kinds: tell smooth, pale, regular polyps (kind 1) from redder, lobed, pitted ones (kind 2). Without it every
            polyp is of kind 1; the picture is the same.

    Examples::

        >>> case = polyp_case(1, two_kinds=True)
        >>> case.image.shape, int(case.objects.max()), len(case.kinds)
        ((192, 256, 3), 1, 1)
    """
    rng = picture_rng("polyp", seed, size)
    sheet = Sheet(size)
    height, light = _tube(rng, sheet)
    kind = LOBED if rng.random() < 0.5 else SMOOTH
    radius = rng.uniform(15, 46) if kind == SMOOTH else rng.uniform(19, 52)
    polyp = Outline(
        rng,
        rng.uniform(0.27, 0.73, 2) * (sheet.height, sheet.width),
        radius,
        rng.uniform(1, 1.6),
        rng.uniform(0, np.pi),
        rng.uniform(0.03, 0.06) if kind == SMOOTH else rng.uniform(0.07, 0.14),
        (2, 5) if kind == SMOOTH else (2, 7),
        1.2,
    )
    distance = polyp.distance(sheet.y, sheet.x) + np.float32(0.6) * sheet.noise(rng, 4)
    inside = sheet.cover(distance, 2)
    t = np.clip(-distance / np.float32(0.85 * radius), 0, 1)
    dome = np.sqrt(1 - (1 - t) ** 2) * np.float32(radius * rng.uniform(0.3, 0.6))
    lobes, pits = sheet.noise(rng, radius / 6), sheet.noise(rng, 1.8)
    if kind == LOBED:
        dome += np.clip(t * 5, 0, 1) * np.float32(radius * 0.04) * (1 - np.abs(lobes))
    extra, stool = _bumps(rng, sheet)
    # a dome covers the folds below it
    surface = height * (1 - np.float32(0.8) * inside) + dome + np.float32(0.12) * sheet.noise(rng, 2.5) + extra
    surface += np.float32(0.6) * sheet.noise(rng, 14)
    surface = gaussian_filter(surface, 0.9 * sheet.pixels)

    redness = rng.uniform(0, 1)
    wall = np.array([0.86, 0.56, 0.42]) * (1 - redness) + np.array([0.80, 0.38, 0.30]) * redness
    tint = rng.normal(1, 0.035, 3) * ((1.02, 1.06, 1.08) if kind == SMOOTH else (1.0, 0.86, 0.9))
    shades = 1 + np.float32(0.05) * sheet.noise(rng, 20)[..., None] + np.float32(0.02) * sheet.noise(rng, 3)[..., None]
    colour = wall * shades
    vessels = np.exp(-((sheet.noise(rng, 9) / 0.09) ** 2)) * np.clip(sheet.noise(rng, 22) + 0.4, 0, 1)
    vessels += np.float32(0.7) * np.exp(-((sheet.noise(rng, 5) / 0.08) ** 2)) * np.clip(sheet.noise(rng, 22), 0, 1)
    vessels = gaussian_filter(vessels, 0.6 * sheet.pixels) * (1 - inside) * np.float32(rng.uniform(0.4, 1))
    colour *= 1 - vessels[..., None] * np.array([0.2, 0.45, 0.4], np.float32)
    mottle = 0.05 * lobes
    if kind == LOBED:
        mottle = mottle - np.float32(0.2) * np.clip(pits - 0.7, 0, 1)
    colour *= 1 + inside[..., None] * (tint * (1 + mottle[..., None]) - 1)
    dirt = np.array([0.72, 0.55, 0.22]) * rng.uniform(0.6, 1.1) * (1 + 0.12 * pits[..., None])
    colour += stool[..., None] * (dirt - colour)

    lamp = rng.uniform(-0.3, 0.3, 2)
    facing, mirror = _shade(surface, sheet, (float(lamp[0]), float(lamp[1])))
    # the polyp shades the wall on its far side, and stands nearer to the lamp itself
    away = polyp.distance(sheet.y + np.float32(lamp[0] * 14), sheet.x + np.float32(lamp[1] * 14))
    light *= 1 - np.float32(0.35) * sheet.cover(away, 8) * (1 - inside)
    light = light * (1 - inside) + inside * (np.float32(0.35) + np.float32(0.65) * light)
    glance = np.clip((mirror - np.float32(0.993)) / np.float32(0.004), 0, 1)
    glance *= np.clip(sheet.noise(rng, 3.5) - rng.uniform(0.6, 1.6), 0, 1) * (1 - stool)
    image = colour * (light * facing ** np.float32(1.3))[..., None] * rng.uniform(0.8, 1.2)
    image += (np.float32(1.6) * glance * np.clip(light * 1.5, 0, 1))[..., None]
    if rng.random() < 0.15:
        image = image @ NARROW_BAND.T
    off = np.hypot(sheet.y / sheet.height - 0.5, sheet.x / sheet.width - 0.5)
    image *= (1.08 - rng.uniform(0.3, 1.0) * off**2)[..., None]
    image = gaussian_filter(image, (rng.uniform(0.3, 1.0),) * 2 + (0,), truncate=3.0)
    image += rng.uniform(0.005, 0.02) * rng.standard_normal(image.shape, dtype=np.float32)
    # the screen's cut-off corners
    cut = np.minimum(sheet.y, sheet.height - sheet.y) + np.minimum(sheet.x, sheet.width - sheet.x)
    frame = sheet.cover(cut - np.float32(rng.choice([0, 22, 40])), 1.5)
    image *= 1 - frame[..., None]
    sheet.objects[(distance < 0) & (frame < 0.5)] = 1
    return sheet.case(image, (kind if two_kinds else 1,))
