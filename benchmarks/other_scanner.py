# SPDX-License-Identifier: Apache-2.0
"""The slices of a labelled CT as another patient's scan on another scanner would show them, seeded.

What differs between two patients' CTs, each step by itself: contrast medium in vessels and organs, which are brighter
by what a portal venous phase adds, kidneys more in the cortex than inside, muscle a little; the body's shape (another
width and depth, turned a little, organs pushed about by several mm); pixel size and field of view, arms beside the
body, a table below it; noise and blur. It is a stand-in: shapes stay one patient's, and who trains with like changes
is helped by it. Another patient's own scan is the real test.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["contrast_medium", "scanner"]

# HU that a portal venous phase adds, by class of the Synapse bundle
LIFT = {"aorta": 127, "left kidney": 100, "right kidney": 100, "liver": 45, "pancreas": 50, "spleen": 60}
AIR = -1024.0


def contrast_medium(image: np.ndarray, label: np.ndarray, names: list[str]) -> np.ndarray:
    """HU of ``(X, Y, Z)`` with contrast medium; ``names`` are of classes 1, 2, ..."""
    added = np.zeros(image.shape, np.float32)
    for number, name in enumerate(names, start=1):
        organ = label == number
        lift = LIFT.get(name, 0)
        if "kidney" in name:
            depth = np.stack([ndimage.distance_transform_edt(organ[..., z]) for z in range(organ.shape[2])], -1)
            added += organ * np.where(depth <= 2.5, 1.3 * lift, 0.6 * lift)
        else:
            added += organ * np.float32(lift)
    added += ((label == 0) & (image > 20) & (image < 110)) * np.float32(12)
    soft = ndimage.gaussian_filter(added, (0.6, 0.6, 0))
    return image + np.where(image > -300, soft, 0)


def scanner(
    image: np.ndarray, label: np.ndarray, spacing: float, rng: np.random.Generator, pixel: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The slices of axial ``(X, Y, Z)`` in a body of another shape, as ``side`` x ``side`` pixels of ``pixel`` mm."""
    grid = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2] * 2, indexing="ij")) * pixel / spacing
    angle = np.deg2rad(rng.uniform(-6, 6))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(np.exp(rng.choice([-1, 1], 2) * rng.uniform(0.1, 0.2, 2)))
    pushed = [ndimage.gaussian_filter(rng.standard_normal((side, side)), 40 / pixel) for _ in range(2)]
    places = np.einsum("ij,jhw->ihw", matrix, grid) + [p / np.abs(p).max() * 15 / spacing for p in pushed]
    places += (np.array(image.shape[:2])[:, None, None] - 1) / 2
    depth = range(image.shape[2])
    seen = np.stack([ndimage.map_coordinates(image[..., z], places, order=1, cval=AIR) for z in depth], -1)
    truth = np.stack([ndimage.map_coordinates(label[..., z], places, order=0, cval=0) for z in depth], -1)
    x, y = (axis[..., None] for axis in np.meshgrid(*[(np.arange(side) - (side - 1) / 2) * pixel] * 2, indexing="ij"))
    air = seen < -700
    for place in (-0.46, 0.46):  # arms: muscle around a bone
        radius = np.hypot(x - place * side * pixel, y - rng.uniform(-40, 40))
        seen = np.where(air & (radius < 35), np.where(radius < 11, 500.0, 50.0), seen)
    table = np.abs(y - 0.44 * side * pixel + (x / 30) ** 2 * 0.5) < pixel
    seen = np.where(air & table, -100.0, seen)
    seen = ndimage.gaussian_filter(seen, (1.5 / pixel, 1.5 / pixel, 0)) + 20 * rng.standard_normal(seen.shape)
    return np.clip(seen, AIR, 3071), truth
