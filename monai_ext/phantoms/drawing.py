# SPDX-License-Identifier: Apache-2.0
"""What picture phantoms share: a labelled picture, irregular outlines, and a sheet on which soft shapes are painted.

The same seed and size give the same picture. On a processor with other vector instructions, on which NumPy's ``exp``
differs in the last bit, about one pixel in 20 000 may differ by one grey level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_ext.phantoms.solids import Array, smooth_noise

__all__ = ["Cells", "Outline", "PictureCase", "Sheet", "number_objects", "picture_rng", "wander"]

SHORT_SIDE = 192.0
SMALLEST = 16  # pixels along a side
ANGLES = 360
THETA = np.linspace(-np.pi, np.pi, ANGLES, endpoint=False)
COS, SIN = np.cos(THETA), np.sin(THETA)
MOST_WAVES = 12
COS_WAVES, SIN_WAVES = (f(np.arange(MOST_WAVES + 1)[:, None] * THETA) for f in (np.cos, np.sin))
AFTER, BEFORE = np.roll(np.arange(ANGLES), -1), np.roll(np.arange(ANGLES), 1)

Box = tuple[slice, slice]


@dataclass(frozen=True)
class PictureCase:
    """One phantom picture.

    Attributes:
        image: RGB, ``(H, W, 3)``.
        objects: ``(H, W)``, 0 or the number of an object, 1 to n.
        kinds: class of every object, 1 where there is one kind.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.uint16]
    kinds: tuple[int, ...]


def picture_rng(name: str, seed: int, size: tuple[int, int]) -> np.random.Generator:
    """The random numbers of one picture; another generator draws others from the same seed.

    Raises:
        ValueError: if the seed is negative or the size is not two sides of 16 pixels or more.
    """
    if seed < 0:
        raise ValueError(f"monai_ext: seed must not be negative, got {seed}.")
    if len(size) != 2 or min(size) < SMALLEST:
        raise ValueError(f"monai_ext: size must be (height, width) of {SMALLEST} pixels or more, got {size}.")
    return np.random.default_rng([*name.encode(), seed])


def number_objects(objects: NDArray[Any], smallest: int = 1) -> tuple[NDArray[np.uint16], list[int]]:
    """Numbers 1 to n without gaps for the objects of at least ``smallest`` pixels; the others become background.

    Returns:
        the picture of numbers, and the old number of every object.
    """
    area = np.bincount(objects.ravel())
    area[0] = 0
    kept = np.flatnonzero(area >= max(smallest, 1))
    new = np.zeros(len(area), np.uint16)
    new[kept] = np.arange(1, len(kept) + 1)
    return new[objects], [int(k) for k in kept]


def wander(
    rng: np.random.Generator, start: ArrayLike, heading: float, length: float, bend: float, step: float = 6.0
) -> NDArray[np.float64]:
    """Points (y, x) along a curve whose heading drifts by about ``bend`` radians over its length."""
    count = max(2, round(length / step))
    drift = rng.normal(0, bend / np.sqrt(count), count) + rng.normal(0, bend) / count
    angle = heading + np.cumsum(drift)
    steps = np.stack([np.sin(angle), np.cos(angle)], 1) * (length / count)
    return np.concatenate([[np.zeros(2)], np.cumsum(steps, 0)]) + np.asarray(start, float)


class Outline:
    """A closed curve seen from its centre: an ellipse whose radius swells and shrinks with the angle.

    Args:
        rng: draws the irregularity.
        centre: (y, x).
        radius: geometric mean of the half axes.
        aspect: ratio of the half axes.
        angle: of the first half axis, in radians from the x axis.
        roughness: standard deviation of the radius around the ellipse's, as a share of it.
        waves: lowest and highest number of swellings around the curve, 1 to 12.
        decay: amplitudes fall with this power of the number of swellings.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        centre: ArrayLike,
        radius: float,
        aspect: float = 1.0,
        angle: float = 0.0,
        roughness: float = 0.0,
        waves: tuple[int, int] = (2, 9),
        decay: float = 1.0,
    ) -> None:
        self.centre = np.asarray(centre, float)
        a, b = radius * np.sqrt(aspect), radius / np.sqrt(aspect)
        cos, sin = np.cos(angle), np.sin(angle)
        ellipse = a * b / np.hypot(b * (COS * cos + SIN * sin), a * (SIN * cos - COS * sin))
        first, last = waves
        k = np.arange(first, last + 1)
        amplitude = rng.normal(size=len(k)) * k**-decay
        phase = rng.uniform(0, 2 * np.pi, len(k))
        swell = (amplitude * np.cos(phase)) @ COS_WAVES[k] - (amplitude * np.sin(phase)) @ SIN_WAVES[k]
        ellipse = ellipse * np.exp(roughness * swell / np.sqrt(0.5 * (amplitude @ amplitude)))
        self.radii = ellipse.astype(np.float32)
        slope = (ellipse[AFTER] - ellipse[BEFORE]) * (ANGLES / (4 * np.pi))
        self.foreshortening = (ellipse / np.hypot(ellipse, slope)).astype(np.float32)
        self.reach = float(ellipse.max())

    def at(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Points (y, x) of the curve in directions from the centre."""
        index = np.asarray((np.asarray(theta) / (2 * np.pi) + 0.5) * ANGLES, int) % ANGLES
        return self.centre + self.radii[index][..., None] * np.stack([np.sin(theta), np.cos(theta)], -1)

    def distance(self, y: Array, x: Array) -> Array:
        """Distance to the curve in first order, negative inside."""
        dy, dx = y - np.float32(self.centre[0]), x - np.float32(self.centre[1])
        index = ((np.arctan2(dy, dx) * np.float32(0.5 / np.pi) + np.float32(0.5)) * ANGLES).astype(np.int32) % ANGLES
        return (np.hypot(dy, dx) - self.radii[index]) * self.foreshortening[index]


class Cells:
    """Many small, slightly uneven ellipses at once, each on a square patch of pixels of its own.

    Args:
        rng: draws the unevenness.
        sheet: on which they lie.
        centres: (y, x) in units, ``(n, 2)``.
        radii: geometric means of the half axes, ``(n,)``.
        aspects: ratios of the half axes.
        angles: of the first half axes, in radians from the x axis.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        sheet: Sheet,
        centres: NDArray[np.float64],
        radii: NDArray[np.float64],
        aspects: NDArray[np.float64],
        angles: NDArray[np.float64],
    ) -> None:
        def column(values: NDArray[np.float64]) -> Array:
            return values.astype(np.float32)[:, None, None]

        centres = centres.reshape(-1, 2)
        self.size = sheet.size
        self.reach = radii * np.sqrt(aspects)
        half = ceil((1.15 * self.reach.max(initial=1.0) + 1.5) * sheet.pixels)
        offset = np.arange(-half, half + 1)
        self.rows, self.columns = (np.floor(c * sheet.pixels).astype(int)[:, None] + offset for c in centres.T)
        self.y = ((self.rows + 0.5) / sheet.pixels - centres[:, :1]).astype(np.float32)[:, :, None]
        self.x = ((self.columns + 0.5) / sheet.pixels - centres[:, 1:]).astype(np.float32)[:, None, :]
        cos, sin = column(np.cos(angles)), column(np.sin(angles))
        u, v = self.x * cos + self.y * sin, self.y * cos - self.x * sin
        a, b = column(self.reach), column(radii / np.sqrt(aspects))
        rho = np.hypot(u, v) + np.float32(1e-3)
        c, s = u / rho, v / rho
        c2, s2 = c * c - s * s, 2 * c * s
        c3, s3 = c2 * c - s2 * s, s2 * c + c2 * s
        swell = [column(w) for w in rng.normal(0, 0.045, (4, len(centres)))]
        edge = 1 + swell[0] * c2 + swell[1] * s2 + swell[2] * c3 + swell[3] * s3
        q = np.hypot(u / a, v / b) + np.float32(1e-3)
        #: distance to each outline in first order, negative inside, ``(n, side, side)``
        self.distance = np.asarray((q - edge) * q / (np.hypot(u / a**2, v / b**2) + np.float32(1e-4)), np.float32)

    def at(self, field: Array) -> Array:
        """Values of a picture under every patch."""
        rows, columns = (np.clip(i, 0, n - 1) for i, n in zip((self.rows, self.columns), self.size))
        return field[rows[:, :, None], columns[:, None, :]]

    def boxes(self, i: int) -> tuple[Box, Box]:
        """Where cell ``i`` is in the picture, and the same pixels in its patch."""
        picture, patch = [], []
        for index, n in zip((self.rows[i], self.columns[i]), self.size):
            first, last = min(max(int(index[0]), 0), n), min(max(int(index[-1]) + 1, 0), n)
            picture.append(slice(first, last))
            patch.append(slice(first - int(index[0]), last - int(index[0])))
        return (picture[0], picture[1]), (patch[0], patch[1])


class Sheet:
    """Pixels on which shapes with soft edges are painted, later ones over earlier ones.

    Lengths are in units of which the shorter side of the picture has 192, so a larger picture of the same
    proportions shows the same things. Edges are at least as soft as the pixels are coarse.

    Args:
        size: height and width in pixels.
        channels: of ``value``.
    """

    def __init__(self, size: tuple[int, int], channels: int = 3) -> None:
        self.size = (int(size[0]), int(size[1]))
        self.pixels = min(self.size) / SHORT_SIDE  # in a unit
        self.height, self.width = (n / self.pixels for n in self.size)
        y, x = ((np.arange(n, dtype=np.float32) + 0.5) / np.float32(self.pixels) for n in self.size)
        self.y, self.x = (np.ascontiguousarray(a) for a in np.meshgrid(y, x, indexing="ij"))
        self.value = np.zeros((*self.size, channels), np.float32)
        self.objects = np.zeros(self.size, np.uint16)

    def noise(self, rng: np.random.Generator, *sigma: float) -> Array:
        """Smooth random field, correlated over ``sigma`` units (along y and x, or both)."""
        # from a generator of its own: what is drawn afterwards does not depend on the number of pixels
        return smooth_noise(
            np.random.default_rng(rng.integers(2**63)), self.size, [s * self.pixels for s in (sigma * 2)[:2]]
        )

    def box(self, lower: ArrayLike, upper: ArrayLike, room: float = 0.0) -> Box:
        """Pixels between two corners (y, x), and ``room`` more on every side."""
        (top, left), (bottom, right) = np.asarray(lower, float).tolist(), np.asarray(upper, float).tolist()
        return self._range(top - room, bottom + room), self._range(left - room, right + room)

    def _range(self, first: float, last: float) -> slice:
        return slice(max(floor(first * self.pixels - 0.5), 0), max(ceil(last * self.pixels + 0.5), 0))

    def around(self, outline: Outline, room: float = 2.0) -> Box:
        """Pixels that an outline may touch."""
        return self.box(outline.centre - outline.reach, outline.centre + outline.reach, room)

    def cover(self, distance: NDArray[Any], softness: float = 0.0) -> Array:
        """Share of every pixel that a shape covers, from the distance to it; the edge fades over ``softness``."""
        width = max(softness, 1 / self.pixels)
        cover: Array = np.clip(0.5 - np.asarray(distance, np.float32) * np.float32(1 / width), 0, 1)
        return cover

    def paint(self, box: Box, cover: NDArray[Any], colour: ArrayLike) -> None:
        """Lay a colour (one, or one for each pixel of the box) over what is there."""
        here = self.value[box]
        here += np.asarray(cover, np.float32)[..., None] * (np.asarray(colour, np.float32) - here)

    def strokes(self, path: ArrayLike, radius: ArrayLike, into: Array) -> None:
        """Lower ``into``, a field of the whole picture, to the distance to a chain of tapering capsules.

        Where the chain is farther than two units, ``into`` may keep a larger value.
        """
        path = np.asarray(path, dtype=float)
        points, radii = path.tolist(), np.broadcast_to(np.asarray(radius, dtype=float), len(path)).tolist()
        for (ay, ax), (by, bx), ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:]):
            room = max(ra, rb) + 2 + 1 / self.pixels
            rows = self._range(min(ay, by) - room, max(ay, by) + room)
            columns = self._range(min(ax, bx) - room, max(ax, bx) + room)
            part = into[rows, columns]
            if part.size == 0:
                continue
            y, x = self.y[rows, :1] - np.float32(ay), self.x[:1, columns] - np.float32(ax)
            dy, dx = by - ay, bx - ax
            length = max(dy * dy + dx * dx, 1e-6)
            along = y * np.float32(dy / length) + x * np.float32(dx / length)
            np.minimum(np.maximum(along, 0, out=along), 1, out=along)
            distance = np.hypot(y - along * np.float32(dy), x - along * np.float32(dx))
            distance -= np.float32(ra) + along * np.float32(rb - ra)
            np.minimum(part, distance, out=part)

    def at(self, field: Array, points: NDArray[np.float64]) -> Array:
        """Values of a field at points (y, x), ``(n, 2)``; outside the picture those of its edge."""
        rows, columns = (np.clip((p * self.pixels).astype(int), 0, n - 1) for p, n in zip(points.T, self.size))
        return field[rows, columns]

    def far(self) -> Array:
        """A field of distances in which nothing is near."""
        return np.full(self.size, 1e3, np.float32)

    def picture(self, value: Array | None = None) -> NDArray[np.uint8]:
        """Bytes of ``value`` (default: the sheet's), 0 to 1; one channel is repeated."""
        value = self.value if value is None else value
        pixels = np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)
        return pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, axis=-1)

    def case(self, image: Array, kinds: Sequence[int], smallest: float = 6.0) -> PictureCase:
        """The case of what was painted: objects of fewer than ``smallest`` square units are left out.

        Args:
            image: ``(H, W, channels)``, 0 to 1.
            kinds: class of each number in ``objects``.
        """
        objects, kept = number_objects(self.objects, int(smallest * self.pixels**2))
        return PictureCase(self.picture(image), objects, tuple(int(kinds[k - 1]) for k in kept))
