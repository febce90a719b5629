# SPDX-License-Identifier: Apache-2.0
"""Dermoscopy phantom: one lesion on skin, seen through a contact lens."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ext.phantoms.drawing import Outline, PictureCase, Sheet, picture_rng, wander
from monai_ext.phantoms.solids import Array

__all__ = ["skin_lesion_case"]

PALE, TAN, DARK = np.array([[0.93, 0.75, 0.68], [0.80, 0.58, 0.46], [0.52, 0.36, 0.29]])
MELANIN = np.array([0.55, 1.0, 1.25], np.float32)  # optical density of brown pigment in red, green and blue
BLOOD = np.array([0.12, 0.75, 0.60], np.float32)
VEIL = np.array([1.15, 0.95, 0.70], np.float32)  # deep pigment looks grey-blue


def _lines(field: Array, width: float) -> Array:
    """Ridges along the zeros of a random field."""
    return np.exp(-((field / np.float32(width)) ** 2))


def _lesion(rng: np.random.Generator, sheet: Sheet) -> tuple[Array, Array]:
    """Signed distance to the lesion's outline, and the optical density it adds, ``(H, W, 3)``."""
    radius = rng.uniform(18, 58)
    outline = Outline(
        rng,
        np.array([sheet.height, sheet.width]) * rng.uniform(0.36, 0.64, 2),
        radius,
        rng.uniform(1, 1.7),
        rng.uniform(0, np.pi),
        rng.uniform(0.04, 0.13),
        (2, 11),
        1.3,
    )
    distance = outline.distance(sheet.y, sheet.x) + rng.uniform(0.4, 1.8) * sheet.noise(rng, 3)
    inside = sheet.cover(distance, rng.uniform(1.5, 7))
    depth = np.clip(-distance / radius, 0, 1)
    blotches = sheet.noise(rng, rng.uniform(8, 16))
    network = _lines(sheet.noise(rng, 1.9), 0.35) * np.clip(1.3 - rng.uniform(0, 1.6) * depth, 0, 1)
    globules = np.clip(sheet.noise(rng, 1.6) - 1.2, 0, 1)
    texture = rng.uniform(0.5, 1.1) * network + rng.uniform(0.2, 1.4) * globules
    look = rng.choice(4, p=[0.36, 0.16, 0.26, 0.22])
    strength = rng.uniform(0.25, 1.2)
    if look == 0:  # evenly brown, blotched
        body = 0.55 + 0.3 * blotches + texture
    elif look == 1:  # dark rim, faded within
        body = np.exp(-((depth - 0.12) ** 2) / 0.02) * (0.9 + 0.2 * blotches) + 0.1 + 0.7 * texture
    elif look == 2:  # little pigment, much blood
        body = 0.12 * (1 + blotches) + 0.45 * texture
    else:  # paler than the skin, scaly
        body = -0.28 / strength * (1 + 0.35 * blotches) + 0.4 * texture
    density = (np.float32(strength) * body)[..., None] * MELANIN
    if look == 2:
        density += np.clip(0.55 + 0.2 * sheet.noise(rng, 9), 0, 1)[..., None] * BLOOD * np.float32(rng.uniform(0.4, 1))
    veil = np.clip(sheet.noise(rng, 14) - rng.uniform(0.3, 2), 0, 1)[..., None] * VEIL * np.float32(look < 2)
    return distance, inside[..., None] * (density + np.float32(0.8) * veil)


def _spots(rng: np.random.Generator, sheet: Sheet, distance: Array) -> Array:
    """Optical density of freckles and of diffuse brown patches, which have neither border nor network."""
    density = np.zeros(sheet.size, np.float32)
    count = int(rng.choice([0, 4, 12, 25]))
    for strength, radius, y, x in zip(
        rng.uniform(0.1, 0.7, count),
        rng.gamma(3, 1.0, count) + 1,
        rng.uniform(0, sheet.height, count),
        rng.uniform(0, sheet.width, count),
    ):
        spot = Outline(rng, (y, x), radius, rng.uniform(1, 1.6), rng.uniform(0, np.pi), 0.12)
        box = sheet.around(spot, 3)
        density[box] += strength * sheet.cover(spot.distance(sheet.y[box], sheet.x[box]), 2.5)
    warp = np.exp(np.float32(0.35) * sheet.noise(rng, 12))
    for _ in range(rng.integers(0, 4)):
        at = rng.uniform(0, 1, 2) * (sheet.height, sheet.width)
        reach = rng.uniform(14, 40)
        d2 = ((sheet.y - np.float32(at[0])) ** 2 + (sheet.x - np.float32(at[1])) ** 2) / np.float32(reach**2)
        density += np.float32(rng.uniform(0.3, 1.2)) * np.exp(-((d2 * warp) ** np.float32(1.4)))
    return density * np.clip(distance / 4, 0, 1)


def _hairs(rng: np.random.Generator, sheet: Sheet) -> None:
    colour = np.array([0.16, 0.11, 0.09]) if rng.random() < 0.75 else np.array([0.85, 0.75, 0.6])
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.choice([0, 3, 9, 18]))):
        start = rng.uniform(-0.1, 1.1, 2) * (sheet.height, sheet.width)
        path = wander(rng, start, heading + rng.normal(0, 0.5), rng.uniform(50, 220), 0.7, 9)
        distance = sheet.far()
        sheet.strokes(path, rng.uniform(0.35, 0.9) * np.linspace(1, 0.5, len(path)), distance)
        near = np.nonzero(distance < 1.5)
        sheet.value[near] += (0.85 * sheet.cover(distance[near]))[:, None] * (colour - sheet.value[near])


def _bubbles(rng: np.random.Generator, sheet: Sheet) -> None:
    """Air in the immersion gel: a dark rim, a bright one within, a reflection."""
    for _ in range(int(rng.choice([0, 0, 3, 9]))):
        radius = rng.gamma(2.5, 1.8) + 1.5
        bubble = Outline(rng, rng.uniform(0, 1, 2) * (sheet.height, sheet.width), radius, rng.uniform(1, 1.2))
        box = sheet.around(bubble)
        y, x = sheet.y[box], sheet.x[box]
        d = bubble.distance(y, x)
        sheet.paint(box, 0.35 * np.exp(-(d**2)), (0.25, 0.2, 0.18))
        sheet.paint(box, 0.5 * np.exp(-((d + 1.6) ** 2)), (1, 1, 1))
        glint = np.hypot(y - bubble.centre[0] + 0.4 * radius, x - bubble.centre[1] + 0.3 * radius) - 0.16 * radius
        sheet.paint(box, 0.9 * sheet.cover(glint.astype(np.float32), 1), (1, 1, 1))


def _ruler(rng: np.random.Generator, sheet: Sheet) -> None:
    """Millimetre marks of the lens along one side."""
    step, offset, row = rng.uniform(7, 12), rng.uniform(0, 8), rng.uniform(4, 12)
    below = rng.random() < 0.5
    distance = sheet.far()
    for i, at in enumerate(np.arange(offset, sheet.width, step)):
        length = 9 if i % 5 == 0 else 5
        ends = np.array([row, row + length])
        ends = sheet.height - ends if below else ends
        sheet.strokes(np.stack([ends, [at, at]], 1), 0.45, distance)
    sheet.paint((slice(None), slice(None)), 0.8 * sheet.cover(distance), (0.12, 0.12, 0.13))


def skin_lesion_case(seed: int, size: tuple[int, int] = (192, 256)) -> PictureCase:
    """Make a dermoscopy picture with one lesion; the same seed and size give the same pixels.

    The skin is anything from pale to dark. The lesion is brown, ring-shaped, pink or paler than the skin around it, has
    an irregular border and a pigment network or globules. Around it are freckles and diffuse brown patches; hairs, gel
    bubbles, a ruler, uneven light and the dark edge of the lens lie over everything.

    Args:
        seed: not negative.
        size: height and width.

    Examples::

        >>> case = skin_lesion_case(0)
        >>> case.image.shape, int(case.objects.max()), case.kinds
        ((192, 256, 3), 1, (1,))
    """
    rng = picture_rng("skin", seed, size)
    sheet = Sheet(size)
    tone = rng.uniform(0, 1) ** 1.3 * 2
    skin = PALE + (TAN - PALE) * min(tone, 1) + (DARK - TAN) * max(tone - 1, 0)
    skin = skin * rng.normal(1, [0.02, 0.03, 0.05])
    creases = _lines(sheet.noise(rng, 5, 1.6), 0.25) + _lines(sheet.noise(rng, 1.6, 5), 0.25)
    flush = np.clip(0.5 + 0.5 * sheet.noise(rng, 30), 0, None)
    distance, lesion = _lesion(rng, sheet)
    density = lesion + (_spots(rng, sheet, distance) + np.float32(0.05) * creases)[..., None] * MELANIN
    density += (np.float32(rng.uniform(0.05, 0.25)) * flush)[..., None] * BLOOD
    sheet.value[:] = skin * np.exp(-density)
    sheet.objects[distance < 0] = 1
    _hairs(rng, sheet)
    if rng.random() < 0.35:
        _ruler(rng, sheet)
    _bubbles(rng, sheet)
    off = np.hypot(sheet.y / sheet.height - rng.uniform(0.4, 0.6), (sheet.x / sheet.width - rng.uniform(0.4, 0.6)))
    light = 1 - rng.uniform(0, 1.3) * off**2 + 0.04 * sheet.noise(rng, 50)
    if rng.random() < 0.3:  # the round field of the lens
        field = sheet.cover((off - rng.uniform(0.52, 0.62)).astype(np.float32) * 200, 8)
        light = light * field
        sheet.objects[field < 0.5] = 0
    light = light * rng.uniform(0.75, 1.1)
    image = sheet.value * light[..., None].astype(np.float32)
    image = gaussian_filter(image, (rng.uniform(0.2, 0.8),) * 2 + (0,), truncate=3.0)
    image += rng.uniform(0.005, 0.02) * rng.standard_normal((*sheet.size, 1), dtype=np.float32)
    return sheet.case(image, (1,))
