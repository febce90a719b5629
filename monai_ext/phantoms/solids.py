# SPDX-License-Identifier: Apache-2.0
"""What phantoms are built of: soft-edged solids painted on a voxel grid, and smooth random fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

__all__ = ["Canvas", "ellipsoid", "resize", "smooth_maximum", "smooth_minimum", "smooth_noise", "spline_path"]

Array = NDArray[np.float32]
Box = tuple[slice, ...]


def resize(field: Array, shape: Sequence[int]) -> Array:
    """Linear interpolation of the last ``len(shape)`` axes, first and last samples kept in place."""
    mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
    lead = field.shape[: field.ndim - len(shape)]
    x = torch.from_numpy(np.ascontiguousarray(field, dtype=np.float32)).reshape(1, -1, *field.shape[len(lead) :])
    y = torch.nn.functional.interpolate(x, size=tuple(shape), mode=mode, align_corners=True)
    return np.asarray(y.numpy().reshape(*lead, *shape), dtype=np.float32)


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma: Iterable[float]) -> Array:
    """Gaussian random field of zero mean and unit variance, correlated over ``sigma`` voxels along each axis."""
    sigma = [float(s) for s in sigma]
    # a field that varies slowly is drawn on a coarser grid: the same statistics for a fraction of the time
    factor = [max(1.0, s / 1.5) for s in sigma]
    small = [max(2, int(np.ceil(n / f)) + 1) for n, f in zip(shape, factor)]
    field = gaussian_filter(
        rng.standard_normal(small, dtype=np.float32), [s / f for s, f in zip(sigma, factor)], mode="wrap", truncate=3.0
    )
    if small != list(shape):
        field = resize(field, shape)
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def ellipsoid(points: Array, centre: ArrayLike, radii: ArrayLike, rotation: Rotation | None = None) -> Array:
    """Distance to the surface of an ellipsoid in first order, negative inside.

    Args:
        points: coordinates in mm, ``(3, *grid)``.
        centre: in mm.
        radii: half axes in mm.
        rotation: turns the axes of the ellipsoid into those of the patient; default: none.
    """
    q = points - np.asarray(centre, np.float32).reshape(3, *[1] * (points.ndim - 1))
    if rotation is not None:
        q = np.tensordot(rotation.inv().as_matrix().astype(np.float32), q, 1)
    q = q / np.asarray(radii, np.float32).reshape(3, *[1] * (points.ndim - 1))
    value = np.sqrt(np.einsum("i...,i...->...", q, q))
    q = q / np.asarray(radii, np.float32).reshape(3, *[1] * (points.ndim - 1))
    slope = np.sqrt(np.einsum("i...,i...->...", q, q))
    return value * (value - 1) / np.maximum(slope, 1e-4)


def smooth_minimum(a: Array, b: Array, k: float) -> Array:
    """Union of two solids by distance, blended over ``k`` mm."""
    h = np.maximum(k - np.abs(a - b), 0) / np.float32(k)
    return np.minimum(a, b) - h * h * np.float32(k / 4)


def smooth_maximum(a: Array, b: Array, k: float) -> Array:
    """Intersection of two solids by distance, blended over ``k`` mm."""
    return -smooth_minimum(-a, -b, k)


def spline_path(nodes: ArrayLike, count: int) -> NDArray[np.float64]:
    """``count`` points on a smooth curve through ``nodes`` (rows: x, y, z, and more such as a radius)."""
    nodes = np.asarray(nodes, dtype=float)
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(nodes[:, :3], axis=0), axis=1))])
    return make_interp_spline(at, nodes, k=min(3, len(nodes) - 1))(np.linspace(0, at[-1], count))


class Canvas:
    """A voxel grid on which solids in patient coordinates are painted, later ones over earlier ones.

    An edge is as soft as the grid is coarse: a voxel that a solid fills in part gets a mixture of the values
    (partial volume), and the solid's label if more than half of it is filled.

    Args:
        points: patient coordinates in mm of every voxel, ``(3, *shape)``: an affine grid, gently deformed.
        to_index: 4x4 matrix from the coordinates of the grid without deformation to voxel indices.
        softness: width in mm over which an edge fades.
        background: value of the empty canvas.
    """

    def __init__(self, points: Array, to_index: NDArray[np.float64], softness: float, background: float) -> None:
        self.points = points
        self.to_index = to_index
        self.to_points = np.linalg.inv(to_index)
        self.softness = softness
        self.value = np.full(points.shape[1:], background, dtype=np.float32)
        self.label = np.zeros(points.shape[1:], dtype=np.uint8)

    def box(self, lower: ArrayLike, upper: ArrayLike) -> Box:
        """Voxel ranges that hold every point between two corners in mm, with room for an edge."""
        first, last = self._ranges(np.asarray(lower, float)[None], np.asarray(upper, float)[None])
        return tuple(slice(int(a), int(b)) for a, b in zip(first[0], last[0]))

    def _ranges(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> tuple[Any, Any]:
        """First and last + 1 voxel along every axis of many boxes at once, ``(boxes, 3)``."""
        linear, offset = self.to_index[:3, :3], self.to_index[:3, 3]
        shape: Any = np.array(self.value.shape)
        centre = (lower + upper) / 2
        shift = np.zeros_like(centre)
        for _ in range(3):  # where the deformed grid has the centre: a fixed point, since the deformation is gentle
            index = np.clip(np.rint((centre - shift) @ linear.T + offset), 0, shape - 1).astype(int)
            shift = self.points[:, index[:, 0], index[:, 1], index[:, 2]].T - (
                index @ self.to_points[:3, :3].T + self.to_points[:3, 3]
            )
        index = (centre - shift) @ linear.T + offset
        # the deformation stretches by less than a quarter
        half = (1.25 * (upper - lower) / 2 + self.softness) @ np.abs(linear).T + 1
        return np.clip(np.floor(index - half), 0, shape).astype(int), np.clip(np.ceil(index + half), 0, shape).astype(
            int
        )

    def at(self, box: Box) -> Array:
        """Patient coordinates of the voxels of a box."""
        return self.points[(slice(None), *box)]

    def paint(self, box: Box, distance: Array, value: float | Array, label: int | None = None) -> None:
        """Lay a solid over what is there.

        Args:
            box: voxel ranges.
            distance: to the surface in mm, negative inside, for the voxels of the box.
            value: of the solid, one or for each voxel of the box.
            label: of the solid, 0 for background; None leaves the labels as they are.
        """
        alpha = np.clip(0.5 - distance / self.softness, 0, 1)
        here = self.value[box]
        here += alpha * (value - here)
        if label is not None:
            self.label[box][distance < 0] = label

    def tube(self, path: ArrayLike, radius: ArrayLike, room: float = 0.0) -> tuple[Box, Array]:
        """Distance to a chain of tapering capsules.

        Args:
            path: points on the centre line in mm, ``(n, 3)``.
            radius: in mm at every point, or one for all.
            room: how far in mm outside the surface the distance is wanted.

        Returns:
            the box that holds the tube, and the distance there (large far away).
        """
        path = np.asarray(path, dtype=float)
        radii = np.broadcast_to(np.asarray(radius, dtype=float), len(path))
        reach = np.maximum(radii[:-1], radii[1:])[:, None] + room
        first, last = self._ranges(np.minimum(path[:-1], path[1:]) - reach, np.maximum(path[:-1], path[1:]) + reach)
        start = first.min(0)
        distance = np.full(last.max(0) - start, 1e3, dtype=np.float32)
        for a, b, ra, rb, low, high in zip(path[:-1], path[1:], radii[:-1], radii[1:], first, last):
            p = self.points[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
            if p.size == 0:
                continue
            q = p - a.astype(np.float32).reshape(3, 1, 1, 1)
            ab = b - a
            along = np.tensordot((ab / max(ab @ ab, 1e-6)).astype(np.float32), q, 1).clip(0, 1)
            q -= along * ab.astype(np.float32).reshape(3, 1, 1, 1)
            d = np.sqrt(np.einsum("i...,i...->...", q, q)) - (np.float32(ra) + along * np.float32(rb - ra))
            part = distance[tuple(slice(i, j) for i, j in zip(low - start, high - start))]
            np.minimum(part, d, out=part)
        return tuple(slice(int(i), int(j)) for i, j in zip(start, last.max(0))), distance
