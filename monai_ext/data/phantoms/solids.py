# SPDX-License-Identifier: Apache-2.0
"""What phantoms are built of: soft-edged solids painted on a voxel grid, and smooth random fields."""

from __future__ import annotations

from collections.abc import Sequence

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


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma: Sequence[float]) -> Array:
    """Gaussian random field of zero mean and unit variance, correlated over ``sigma`` voxels along each axis."""
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
        points: patient coordinates in mm of every voxel, ``(3, *shape)``.
        to_index: 4x4 matrix from patient coordinates to voxel indices.
        margin: how far in mm ``points`` are from the exact grid of ``to_index`` at most (deformation).
        softness: width in mm over which an edge fades.
        background: value of the empty canvas.
    """

    def __init__(
        self, points: Array, to_index: NDArray[np.float64], margin: float, softness: float, background: float
    ) -> None:
        self.points = points
        self.to_index = to_index
        self.margin = margin
        self.softness = softness
        self.value = np.full(points.shape[1:], background, dtype=np.float32)
        self.label = np.zeros(points.shape[1:], dtype=np.uint8)

    def box(self, lower: ArrayLike, upper: ArrayLike) -> Box:
        """Voxel ranges that hold every point between two corners in mm, with room for an edge."""
        pad = self.margin + self.softness
        ends = np.stack([np.asarray(lower, float) - pad, np.asarray(upper, float) + pad])
        corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
        index = corners @ self.to_index[:3, :3].T + self.to_index[:3, 3]
        first, last = np.floor(index.min(0)).astype(int), np.ceil(index.max(0)).astype(int) + 1
        shape = self.value.shape
        return tuple(slice(min(max(a, 0), n), min(max(b, 0), n)) for a, b, n in zip(first, last, shape))

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
        reach = radii.max() + room
        whole = self.box((path - reach).min(0), (path + reach).max(0))
        distance = np.full([s.stop - s.start for s in whole], 1e3, dtype=np.float32)
        for a, b, ra, rb in zip(path[:-1], path[1:], radii[:-1], radii[1:]):
            r = max(ra, rb) + room
            part = self.box(np.minimum(a, b) - r, np.maximum(a, b) + r)
            p = self.at(part)
            if p.size == 0:
                continue
            ab = b - a
            q = [p[i] - np.float32(a[i]) for i in range(3)]
            t = sum(q[i] * np.float32(ab[i] / max(ab @ ab, 1e-6)) for i in range(3))
            t = np.clip(t, 0, 1)
            d = np.sqrt(sum((q[i] - t * np.float32(ab[i])) ** 2 for i in range(3))) - (ra + t * np.float32(rb - ra))
            inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(part, whole))
            np.minimum(distance[inner], d, out=distance[inner])
        return whole, distance
