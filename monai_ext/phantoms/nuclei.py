# SPDX-License-Identifier: Apache-2.0
"""Microscopy phantoms: many nuclei, in haematoxylin and eosin or in fluorescence."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from monai_ext.phantoms.drawing import Cells, Outline, PictureCase, Sheet, picture_rng
from monai_ext.phantoms.solids import Array

__all__ = ["Stain", "absorbed", "nuclei_case", "paint_nuclei", "scatter", "stroma"]

Stain = Literal["hematoxylin", "fluorescence"]

HEMATOXYLIN = np.array([0.95, 1.0, 0.45], np.float32)  # optical densities in red, green and blue
EOSIN = np.array([0.14, 0.95, 0.38], np.float32)
PIGMENT = np.array([0.75, 0.95, 1.10], np.float32)


def absorbed(rng: np.random.Generator, density: Array) -> Array:
    """Colours of a section from the densities of haematoxylin, eosin and brown pigment, ``(H, W, 3)``.

    The two stains lean to red or to blue, and the light is brighter or warmer, from laboratory to laboratory.
    """
    stains = np.stack([HEMATOXYLIN, EOSIN, PIGMENT]) * np.exp(rng.normal(0, [[0.12], [0.16], [0.12]], (3, 3)))
    white = np.array([0.96, 0.94, 0.96]) * rng.uniform(0.72, 1.03) * rng.normal(1, 0.015, 3)
    return np.asarray(white * np.exp(-(density @ stains.astype(np.float32))), np.float32)


def stroma(rng: np.random.Generator, sheet: Sheet, fibre: float = 0.8) -> Array:
    """Density of eosin in wavy bundles of fibres, about 0.2 to 1."""
    angle = np.float32(rng.uniform(0, np.pi)) + np.float32(0.5) * sheet.noise(rng, 40)
    warp = 7 * sheet.noise(rng, 16)
    along = np.cos(angle.mean()) * sheet.x + np.sin(angle.mean()) * sheet.y
    across = np.cos(angle.mean()) * sheet.y - np.sin(angle.mean()) * sheet.x + warp
    grid = rng.standard_normal((96, 96), dtype=np.float32)
    grid = gaussian_filter(grid, 0.8, mode="wrap")
    fibres = map_coordinates(grid / grid.std(), [across / 2.2 % 96, along / 22 % 96], order=1, mode="grid-wrap")
    cloud = sheet.noise(rng, 15)
    return np.clip(0.55 + 0.16 * np.float32(fibre) * fibres + 0.13 * cloud, 0.05, 1.4).astype(np.float32)


def scatter(
    rng: np.random.Generator, sheet: Sheet, radii: NDArray[np.float64], gap: float, tries: int = 12
) -> NDArray[np.float64]:
    """Discs (y, x, radius) of the given radii whose middles keep ``gap`` times the sum of their radii apart.

    Where a disc finds no room in a number of tries, it is left out; the first one always finds it.
    """
    placed, count = np.empty((len(radii), 3)), 0
    for radius, places in zip(radii, rng.uniform(-0.02, 1.02, (len(radii), tries, 2)) * (sheet.height, sheet.width)):
        near = np.linalg.norm(places[:, None] - placed[None, :count, :2], axis=-1) < gap * (placed[:count, 2] + radius)
        free = np.flatnonzero(~near.any(1))
        if len(free):
            placed[count] = (*places[free[0]], radius)
            count += 1
    return placed[:count]


def paint_nuclei(
    rng: np.random.Generator,
    sheet: Sheet,
    cells: Cells,
    density: NDArray[np.float64],
    pale: NDArray[np.float64],
    grain: Array,
    number: bool = False,
) -> None:
    """Lay nuclei over the first channel of the sheet: chromatin, a membrane, in pale ones a nucleolus.

    Args:
        rng: places the nucleoli.
        sheet: with the densities of haematoxylin and eosin.
        cells: the outlines.
        density: of haematoxylin in each membrane.
        pale: share of the density that is missing within each.
        grain: a random field for the chromatin.
        number: number them from 1 in the sheet's objects.
    """
    column = (slice(None), None, None)
    cover = sheet.cover(cells.distance, 1.1)
    within = np.clip(-cells.distance / np.float32(1.8), 0, 1)
    strength = density.astype(np.float32)[column]
    chromatin = strength * (1 - pale.astype(np.float32)[column] * within) * (1 + np.float32(0.28) * cells.at(grain))
    at = (rng.normal(0, 0.25, (2, len(pale))) * cells.reach).astype(np.float32)
    spot = np.hypot(cells.y - at[0][column], cells.x - at[1][column]) - (0.2 * cells.reach).astype(np.float32)[column]
    spot = sheet.cover(spot, 1) * (pale > 0.3).astype(np.float32)[column]
    chromatin = np.maximum(chromatin, np.float32(0.9) * strength * spot)
    faded = 1 - np.float32(0.6) * cover  # a nucleus takes the place of what is around it
    for i in range(len(pale)):
        box, patch = cells.boxes(i)
        here = sheet.value[box]
        here[..., 0] += cover[i][patch] * (chromatin[i][patch] - here[..., 0])
        here[..., 1] *= faded[i][patch]
        if number:
            sheet.objects[box][cells.distance[i][patch] < 0] = i + 1


def _section(rng: np.random.Generator, sheet: Sheet) -> Array:
    """Nuclei in haematoxylin and eosin."""
    sheet.value[..., 1] = stroma(rng, sheet) * np.float32(rng.uniform(0.3, 1.1))
    # cytoplasm rich in RNA and mucus take up haematoxylin, too, and so do crushed cells, which have no outline
    sheet.value[..., 0] = rng.uniform(0, 0.45) * np.clip(sheet.noise(rng, 12) + 0.2, 0, 1.5) + 0.03
    smears = np.clip(sheet.noise(rng, *rng.permutation([4.0, 9.0])) - rng.uniform(0.6, 1.8), 0, 1)
    sheet.value[..., 0] += np.float32(rng.uniform(0.3, 0.85)) * smears * (1 + 0.2 * sheet.noise(rng, 2))
    tears = sheet.cover(np.float32(rng.uniform(1.3, 2.6)) - sheet.noise(rng, 13), 0.4)
    strength = rng.uniform(0.4, 1.4)
    usual = rng.uniform(5, 8.5)
    count = int(rng.choice([30, 60, 100, 160]) * (1 + 0.4 * (sheet.width * sheet.height / 49152 - 1)))
    radii = usual * np.exp(rng.normal(0, 0.2, count))
    placed = scatter(rng, sheet, radii, rng.uniform(0.78, 1.05), 6)
    n = len(placed)
    turn = sheet.at(sheet.noise(rng, 30), placed[:, :2])
    angles = rng.uniform(0, np.pi) + 0.8 * turn + rng.normal(0, 0.4, n)
    vesicular = rng.random(n) < rng.beta(1.6, 1.0)
    pale = np.where(vesicular, rng.uniform(0.4, 0.9, n), rng.uniform(0, 0.25, n))
    dark = strength * rng.uniform(0.7, 1.2, n) * np.where(vesicular, 1, 1.15)
    cells = Cells(rng, sheet, placed[:, :2], placed[:, 2], rng.uniform(1, 2.1, n), angles)
    paint_nuclei(rng, sheet, cells, dark, pale, sheet.noise(rng, 1), number=True)
    free = sheet.objects == 0
    sheet.value[..., :2] *= 1 - tears[..., None] * free[..., None]
    # debris: as dark as nuclei, but ragged; red cells: smooth discs of eosin
    for y, x, size in rng.uniform([0, 0, 1.2], [sheet.height, sheet.width, 4.2], (int(rng.choice([0, 10, 20, 40])), 3)):
        crumb = Outline(rng, (y, x), size, rng.uniform(1, 2.5), rng.uniform(0, 6), 0.35, (3, 9), 0.3)
        box = sheet.around(crumb)
        cover = sheet.cover(crumb.distance(sheet.y[box], sheet.x[box])) * free[box]
        sheet.value[box][..., 2] += np.float32(rng.uniform(0.4, 1.3)) * cover
    for y, x in rng.uniform(0, 1, (int(rng.choice([0, 0, 10, 30])), 2)) * (sheet.height, sheet.width):
        cell = Outline(rng, (y, x), rng.uniform(3, 4), rng.uniform(1, 1.4), rng.uniform(0, 6))
        box = sheet.around(cell)
        d = cell.distance(sheet.y[box], sheet.x[box])
        sheet.value[box][..., 1] += np.float32(0.7) * sheet.cover(d) * free[box] * np.clip(1.2 + d / 5, 0.5, 1)
    image = absorbed(rng, sheet.value)
    image = gaussian_filter(image, (rng.uniform(0.3, 0.9),) * 2 + (0,), truncate=3.0)
    return image + np.float32(0.012) * rng.standard_normal(image.shape, dtype=np.float32)


def _fluorescence(rng: np.random.Generator, sheet: Sheet) -> Array:
    """Nuclei that shine, on a dark ground that is not evenly dark."""
    light = np.zeros(sheet.size, np.float32)
    # cells out of focus lie below the others: bright, but without an edge
    for _ in range(rng.integers(3, 13)):
        y, x = rng.uniform(0, 1, 2) * (sheet.height, sheet.width)
        reach = rng.uniform(9, 22)
        d2 = ((sheet.y - np.float32(y)) ** 2 + (sheet.x - np.float32(x)) ** 2) / np.float32(reach**2)
        light += np.float32(rng.uniform(0.2, 0.95)) * np.exp(-(d2**1.5))
    usual = rng.uniform(6, 13)
    count = int(rng.choice([12, 30, 55, 90]))
    radii = usual * np.exp(rng.normal(0, 0.22, count))
    spread = rng.uniform(0.4, 0.85)
    grain = sheet.noise(rng, 1.3) + 0.8 * sheet.noise(rng, 3)
    placed = scatter(rng, sheet, radii, rng.uniform(0.75, 1.0), 6)
    n = len(placed)
    cells = Cells(rng, sheet, placed[:, :2], placed[:, 2], rng.uniform(1, 1.9, n), rng.uniform(0, np.pi, n))
    column = (slice(None), None, None)
    dome = 0.7 + 0.3 * np.sqrt(np.clip(-cells.distance / placed[:, 2].astype(np.float32)[column], 0, 1))
    bright = np.maximum(np.exp(rng.normal(-0.3, spread, n)), 0.3).astype(np.float32)[column]
    glow = sheet.cover(cells.distance, 1.3) * bright * dome * (1 + np.float32(0.16) * cells.at(grain))
    for i in range(n):
        box, patch = cells.boxes(i)
        light[box] += glow[i][patch]
        sheet.objects[box][cells.distance[i][patch] < 0] = i + 1
    for y, x, size in rng.uniform([0, 0, 0.4], [sheet.height, sheet.width, 1.8], (int(rng.choice([0, 8, 25])), 3)):
        box = sheet.box((y - size, x - size), (y + size, x + size), 2)
        d = np.hypot(sheet.y[box] - np.float32(y), sheet.x[box] - np.float32(x)) - np.float32(size)
        light[box] += np.float32(rng.uniform(0.3, 1.2)) * sheet.cover(d, 1)
    slope = rng.normal(0, 0.5, 2)
    lamp = 1 + slope[0] * (sheet.y / sheet.height - 0.5) + slope[1] * (sheet.x / sheet.width - 0.5)
    haze = gaussian_filter(light, 9 * sheet.pixels) * rng.uniform(0.2, 0.9)
    haze += rng.uniform(0.05, 0.65) * np.clip(1 + 0.6 * sheet.noise(rng, 35), 0, None)
    light = gaussian_filter((light + haze) * np.clip(lamp, 0.35, None), rng.uniform(0.3, 1.0) * sheet.pixels)
    photons = 10 ** rng.uniform(1.6, 2.6)
    light += np.sqrt(light / photons) * rng.standard_normal(sheet.size, dtype=np.float32)
    grey = np.clip(light * rng.uniform(0.18, 0.6), 0, 1) ** rng.uniform(0.6, 1.3)
    return grey[..., None].astype(np.float32)


def nuclei_case(seed: int, size: tuple[int, int] = (192, 256), stain: Stain = "hematoxylin") -> PictureCase:
    """Make a picture of nuclei, each an object; the same arguments give the same pixels.

    In haematoxylin and eosin, nuclei are dense or vesicular, on pink fibres with bluish cytoplasm, with dark debris,
    smears and red cells between them; the stains are strong or weak. In fluorescence each nucleus has a brightness of
    its own, over haze and cells out of focus. Neighbours touch, and the later one covers the edge of the other.

    Args:
        seed: not negative.
        size: height and width.
        stain: "hematoxylin" or "fluorescence" (grey in three equal channels).

    Raises:
        ValueError: for another stain.

    Examples::

        >>> case = nuclei_case(0)
        >>> case.image.shape, len(case.kinds) == int(case.objects.max())
        ((192, 256, 3), True)
    """
    if stain not in get_args(Stain):
        raise ValueError(f"monai_ext: stain must be one of {', '.join(get_args(Stain))}, got {stain!r}.")
    rng = picture_rng(f"nuclei {stain}", seed, size)
    sheet = Sheet(size)
    image = _section(rng, sheet) if stain == "hematoxylin" else _fluorescence(rng, sheet)
    return sheet.case(image, (1,) * int(sheet.objects.max()), smallest=12)
