# SPDX-License-Identifier: Apache-2.0
"""Breast ultrasound phantom: layers, fat lobules, nodules and their shadows, in speckle."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from monai_ext.phantoms.drawing import Outline, PictureCase, Sheet, picture_rng, wander
from monai_ext.phantoms.solids import Array

__all__ = ["breast_nodule_case"]

MOST_NODULES = 3


def _tissue(rng: np.random.Generator, sheet: Sheet) -> tuple[Array, Array]:
    """Echo strength in dB of skin, fat, gland, muscle and ribs, and where the gland begins and ends.

    Returns:
        the echoes, and the two depths of every column, ``(2, W)``.
    """
    y, h = sheet.y, sheet.height
    waves = np.stack([sheet.noise(rng, 28)[0] for _ in range(3)])
    skin = rng.uniform(0.03, 0.07) * h + 1.5 * waves[0]
    top = rng.uniform(0.14, 0.30) * h + 0.035 * h * waves[1]
    bottom = rng.uniform(0.68, 0.95) * h + 0.03 * h * waves[2]
    echo = np.full(sheet.size, -rng.uniform(13, 20), np.float32)  # fat under the skin
    echo += 2.5 * sheet.noise(rng, 5, 9)
    septa = np.exp(-((sheet.noise(rng, 9, 20) / 0.1) ** 2))
    gland = -rng.uniform(1, 8) + 3.0 * sheet.noise(rng, 3, 10) + 2.5 * sheet.noise(rng, 16, 26)
    ducts = np.exp(-((sheet.noise(rng, 7, 16) / 0.14) ** 2)) * rng.uniform(0, 7)
    echo = np.maximum(echo, -18 + 19 * septa)
    echo += sheet.cover(top - y, 4) * (gland - ducts - echo)
    muscle = -rng.uniform(11, 17) + 2 * sheet.noise(rng, 4, 12)
    stripes = np.exp(-((sheet.noise(rng, 2.4, 45) / 0.3) ** 2))
    echo += sheet.cover(bottom - y, 3) * (np.maximum(muscle, -16 + 15 * stripes) - echo)
    fascia = np.exp(-(((y - bottom) / 1.6) ** 2)) + 0.8 * np.exp(-(((y - bottom - 0.1 * h) / 1.4) ** 2))
    echo = np.maximum(echo, -24 + 26 * fascia)
    echo = np.maximum(echo, -14 + 18 * np.exp(-(((y - skin) / 2.2) ** 2)))
    echo = np.where(y < skin, -4 + 3 * sheet.noise(rng, 2, 20), echo)
    return echo.astype(np.float32), np.stack([top, bottom])


def _lobules(rng: np.random.Generator, sheet: Sheet, echo: Array) -> None:
    """Islands of fat within the gland: as dark as a nodule, but with bright septa and no shadow of their own."""
    for _ in range(int(rng.choice([1, 2, 4, 6]))):
        at = rng.uniform([0.15, 0], [0.9, 1]) * (sheet.height, sheet.width)
        lobule = Outline(rng, at, rng.uniform(8, 26), rng.uniform(1.9, 3.6), rng.normal(0, 0.3), 0.08, (2, 5))
        box = sheet.around(lobule, 3)
        d = lobule.distance(sheet.y[box], sheet.x[box])
        here = echo[box]
        striae = np.exp(-((sheet.noise(rng, 3, 14)[box] / 0.16) ** 2))
        dark = -rng.uniform(10, 17) + 12 * striae
        here += sheet.cover(d, 3.5) * (dark - here)
        np.maximum(here, -20 + rng.uniform(16, 22) * np.exp(-((d / 1.3) ** 2)), out=here)  # its capsule


def _beam(sheet: Sheet, source: Array, spread: float) -> Array:
    """What lies behind ``source`` seen from the probe, fading sideways, ``0`` to about ``1``."""
    behind = np.maximum.accumulate(source, axis=0)
    return gaussian_filter1d(behind, spread * sheet.pixels, axis=1)


def _nodule(rng: np.random.Generator, sheet: Sheet, at: tuple[float, float], malignant: bool) -> tuple[Array, float]:
    """Signed distance to a nodule, and its radius."""
    if not malignant:
        radius = rng.uniform(13, 30)
        shape = Outline(rng, at, radius, rng.uniform(1.25, 2.1), rng.normal(0, 0.2), rng.uniform(0.02, 0.06), (2, 5))
        return shape.distance(sheet.y, sheet.x) + np.float32(0.5) * sheet.noise(rng, 4), radius
    radius = rng.uniform(14, 30)
    shape = Outline(rng, at, radius, rng.uniform(0.75, 1.3), rng.normal(0, 0.4), rng.uniform(0.08, 0.14), (2, 9), 0.8)
    distance = shape.distance(sheet.y, sheet.x)
    for theta in rng.uniform(-np.pi, np.pi, rng.integers(7, 16)):  # spicules
        start = shape.centre + 0.75 * (shape.at(theta) - shape.centre)
        path = wander(rng, start, theta + rng.normal(0, 0.25), radius * rng.uniform(0.45, 0.85), 0.3, 4)
        sheet.strokes(path, np.linspace(rng.uniform(2, 3.6), 0.3, len(path)), distance)
    return distance + np.float32(1.0) * sheet.noise(rng, 2.5), radius


def breast_nodule_case(
    seed: int, size: tuple[int, int] = (192, 256), malignant: bool = False, nodules: int = 1
) -> PictureCase:
    """Make a B-mode picture of a breast; the same arguments give the same pixels.

    Below the skin lie fat with septa, the gland with fat lobules in it, and the muscle. A benign nodule is smooth,
    wider than tall, and the tissue behind it is brighter; a malignant one is spiculated and throws a shadow. Speckle
    has Rayleigh's distribution, is wider than tall, and is compressed logarithmically. Gain, depth compensation and
    dynamic range differ from case to case.

    Args:
        seed: not negative.
        size: height and width.
        malignant: the nodules.
        nodules: 0 to 3; they do not touch.

    Raises:
        ValueError: for another number of nodules.

    Examples::

        >>> case = breast_nodule_case(0, nodules=2)
        >>> case.image.shape, int(case.objects.max()), case.kinds
        ((192, 256, 3), 2, (1, 1))
    """
    if not 0 <= nodules <= MOST_NODULES:
        raise ValueError(f"monai_ext: nodules must be 0 to {MOST_NODULES}, got {nodules}.")
    rng = picture_rng("ultrasound", seed, size)
    sheet = Sheet(size)
    echo, (top, bottom) = _tissue(rng, sheet)
    _lobules(rng, sheet, echo)
    loss = np.zeros(sheet.size, np.float32)  # dB, of what lies behind
    share = (np.arange(nodules) + 0.5 + rng.uniform(-0.2, 0.2)) / max(nodules, 1)
    for number, place in enumerate(rng.permutation(share), 1):
        place = rng.uniform(0.22, 0.78) if nodules == 1 else place
        high, low = (float(depth[int(place * sheet.size[1])]) for depth in (top, bottom))
        at = (high + (low - high) * rng.uniform(0.25, 0.7), place * sheet.width)
        distance, radius = _nodule(rng, sheet, at, malignant)
        if nodules > 1:  # room for each
            distance = np.maximum(
                distance, np.abs(sheet.x - np.float32(at[1])) - np.float32(0.4 * sheet.width / nodules)
            )
        inside = sheet.cover(distance, 3.5 if malignant else 2)
        grain = 2.0 * sheet.noise(rng, 3) + 1.5 * sheet.noise(rng, 8)
        drop = rng.uniform(7, 16)
        level = np.median(echo[(distance > 0) & (distance < 8)]) - drop + grain
        if malignant:
            halo = np.exp(-(((distance - 3) / 3) ** 2))
            echo = np.maximum(echo, echo + np.float32(rng.uniform(1, 6)) * halo)
            specks = np.clip(sheet.noise(rng, 1.2) - 2.1, 0, 1) * np.float32(rng.choice([0, 30]))
            level = level + specks
        else:
            rim = np.exp(-(((distance - 0.5) / 1.2) ** 2))
            echo = np.maximum(echo, -16 + np.float32(rng.uniform(4, 14)) * rim)
        echo += inside * (level - echo)
        core = sheet.cover(distance + np.float32(0.15 * radius))
        behind = _beam(sheet, core, 2.0) * (1 - inside)
        fade = np.exp(-np.clip(sheet.y - np.float32(at[0]), 0, None) / 90)
        loss += behind * fade * np.float32(rng.uniform(4, 13) if malignant else -rng.uniform(2.5, 8))
        if not malignant:  # the edges of a smooth round thing bend the beam away
            edge = _beam(sheet, core, 1.0)
            loss += 7 * np.abs(np.gradient(edge, axis=1)) * 4 * sheet.pixels * (1 - inside) * fade
        sheet.objects[(distance < 0) & (sheet.objects == 0)] = number
    # shadows of ligaments and of poor contact, unlike a nodule's they begin higher up
    for _ in range(rng.integers(0, 4)):
        x0, y0 = rng.uniform(0, sheet.width), rng.uniform(0, 0.6) * sheet.height
        width = rng.uniform(3, 16) * (1 + (sheet.y - y0) / sheet.height)
        column = np.exp(-(((sheet.x - x0 - 3 * sheet.noise(rng, 60)) / width) ** 2))
        loss += np.float32(rng.uniform(3, 11)) * column * sheet.cover(np.float32(y0) - sheet.y, 30)
    loss += np.float32(rng.uniform(-4, 12)) * (sheet.y / sheet.height - 0.3) + 1.5 * sheet.noise(rng, 40)
    echo = echo - loss

    axial, lateral = rng.uniform(0.55, 0.9), rng.uniform(0.9, 1.9)
    waves = gaussian_filter(rng.standard_normal((2, *sheet.size), dtype=np.float32), (0, axial, lateral), truncate=3.0)
    waves /= waves.std()
    amplitude = 10 ** (echo / 20) * np.hypot(waves[0], waves[1]) + 10 ** (-rng.uniform(34, 42) / 20)
    dynamic = rng.uniform(42, 60)
    grey = 1 + (20 * np.log10(amplitude) - rng.uniform(5, 18)) / dynamic
    grey = gaussian_filter(grey, (0.3, rng.uniform(0.3, 0.8)), truncate=3.0)  # scan conversion
    grey = np.clip(grey, 0, 1) ** rng.uniform(0.9, 1.5)
    if rng.random() < 0.25:  # the picture may be narrower than the screen
        band = rng.uniform(0, 14)
        seen = (sheet.x > band) & (sheet.x < sheet.width - band)
        grey = grey * seen
        sheet.objects[~seen] = 0
    return sheet.case(grey[..., None].astype(np.float32), (1,) * nodules)
