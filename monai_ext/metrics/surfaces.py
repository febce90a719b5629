# SPDX-License-Identifier: Apache-2.0
"""The surfaces of a label map's classes, and the distances between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics.utils import (
    ENCODING_KERNEL,
    _get_neighbour_code_to_normals_table,
    create_table_neighbour_code_to_contour_length,
)
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["Distances", "Surface", "edge_voxels", "slabs", "surface_elements"]

SLAB_VOXELS = 1 << 19  # what is looked at together stays in the processor's cache
#: how far neighbours are looked up one by one before a tree is asked
NEIGHBOURS = 256
SAMPLE = 256
#: relative costs of a point: one neighbour looked up, put into a tree, asked of a tree by one thread
LOOK, PLANT, ASK = 1.0, 60.0, 200.0


class Surface(NamedTuple):
    """Where the surface of a class is: flat indices, ascending, and what each counts; None: all the same."""

    places: NDArray[np.intp]
    weights: NDArray[np.float64] | None = None


def slabs(labels: np.ndarray) -> list[slice]:
    """Parts of the first axis that fit into the cache."""
    thickness = max(1, SLAB_VOXELS // labels[0].size)
    return [slice(start, min(start + thickness, len(labels))) for start in range(0, len(labels), thickness)]


def edge_voxels(labels: np.ndarray, num_classes: int) -> list[Surface]:
    """For each class but the background its voxels of which one of 6 neighbours (4 in 2D) is of another or outside."""
    indices, classes = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=labels.dtype)]
    for part in slabs(labels):
        low = max(part.start - 1, 0)
        slab = labels[low : part.stop + 1]  # with a neighbour plane on either side
        if not slab.any():
            continue
        edge = np.zeros(slab.shape, dtype=bool)
        for axis in range(labels.ndim):
            along, mark = np.moveaxis(slab, axis, 0), np.moveaxis(edge, axis, 0)
            differs = along[1:] != along[:-1]
            mark[1:] |= differs
            mark[:-1] |= differs
            mark[0] = mark[-1] = True  # the outside is background; of neighbour planes this says nothing, they are cut
        edge &= slab != 0
        own = slice(part.start - low, part.stop - low)
        found = np.flatnonzero(edge[own])
        indices.append(found + part.start * labels[0].size)
        classes.append(slab[own].reshape(-1)[found])
    order, ends = _by_class(np.concatenate(classes), num_classes)
    return [Surface(places) for places in np.split(np.concatenate(indices)[order], ends)]


def surface_elements(
    labels: np.ndarray, num_classes: int, order: NDArray[np.intp], spacing: NDArray[np.float64]
) -> list[Surface]:
    """For each class but the background the voxels' corners that its surface passes, with its area (2D: length) there.

    Areas are those of DeepMind's table as MONAI has it, by which of a corner's 8 voxels (4 in 2D) are of the class.
    Places count corners: one more along each axis than there are voxels.

    Args:
        labels: label map whose axes were put in another order.
        num_classes: background included.
        order: which axis of the file each axis of ``labels`` is; the table is not the same for all.
        spacing: along the axes of the file.
    """
    areas = _areas(tuple(spacing.tolist()))
    bits = np.array(ENCODING_KERNEL[labels.ndim]).transpose(order).reshape(-1)
    plane = np.array(labels.shape[1:]) + 1
    size = int(plane.prod())
    around = list(product((0, 1), repeat=labels.ndim))
    indices, classes = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=labels.dtype)]
    weights = [np.empty(0)]
    for part in slabs(labels):
        last = part.stop == len(labels)
        slab = labels[max(part.start - 1, 0) : part.stop]
        if not slab.any():
            continue
        ends = (int(part.start == 0), int(last))
        slab = np.pad(slab, [ends] + [(1, 1)] * (labels.ndim - 1))
        low = high = slab
        for axis in range(labels.ndim):
            low, high = (np.moveaxis(values, axis, 0) for values in (low, high))
            low, high = np.minimum(low[1:], low[:-1]), np.maximum(high[1:], high[:-1])
            low, high = (np.moveaxis(values, 0, axis) for values in (low, high))
        corners = np.nonzero(low != high)
        voxels = [slab[tuple(c + step for c, step in zip(corners, steps))] for steps in around]
        flat = np.ravel_multi_index(corners, low.shape) + part.start * size
        for k, own in enumerate(voxels):
            here = own != 0
            for before in voxels[:k]:  # each class of a corner once
                here &= before != own
            code = sum(bit * (other[here] == own[here]) for bit, other in zip(bits, voxels))
            indices.append(flat[here])
            classes.append(own[here])
            weights.append(areas[code])
    every = np.concatenate(indices)
    rank = np.argsort(every, kind="stable")
    by_class, ends_of = _by_class(np.concatenate(classes)[rank], num_classes)
    rank = rank[by_class]
    return [
        Surface(*pair) for pair in zip(np.split(every[rank], ends_of), np.split(np.concatenate(weights)[rank], ends_of))
    ]


@lru_cache(maxsize=16)
def _areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Area (2D: length) of the surface between the voxels around a corner, by which of them are inside."""
    if len(spacing) == 2:
        return create_table_neighbour_code_to_contour_length(spacing)[0].double().numpy()
    normals = _get_neighbour_code_to_normals_table().double().numpy()
    # MONAI's own sum is in float32, in which ties of the percentile fall to the other side
    scale = np.array([spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]])
    return np.array([sum(np.linalg.norm(normal * scale) for normal in few) for few in normals])


def _by_class(classes: np.ndarray, num_classes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order that sorts by class, and where the next class begins."""
    values = classes.astype(np.intp)
    ends = np.cumsum(np.bincount(values, minlength=num_classes)[1:])
    return np.argsort(values, kind="stable"), ends[:-1]


@dataclass(frozen=True)
class _Neighbours:
    """What lies around a place, nearest first, in groups of one distance."""

    steps: NDArray[np.intp]  # (neighbours, ndim)
    distances: NDArray[np.float64]  # of each group
    ends: NDArray[np.intp]  # where each group ends


@lru_cache(maxsize=16)
def _neighbours(voxel: tuple[float, ...]) -> _Neighbours:
    sizes = np.array(voxel)
    ball = {2: np.pi, 3: np.pi * 4 / 3}[len(voxel)]
    radius = max((NEIGHBOURS * sizes.prod() / ball) ** (1 / len(voxel)), sizes.min())
    # no more along an axis than there are to look up, however much the sizes differ
    reach = np.minimum(np.floor(radius / sizes), NEIGHBOURS).astype(int)
    steps = np.array(list(product(*(range(-r, r + 1) for r in reach))), dtype=np.intp)
    distances = np.sqrt(((steps * sizes) ** 2).sum(axis=1))
    order = np.argsort(distances, kind="stable")
    steps, distances = steps[order], distances[order]
    inside = (distances > 0) & (distances <= min(radius, *(sizes * (reach + 1)) * (1 - 1e-9)))
    steps, distances = steps[inside], distances[inside]
    groups = np.flatnonzero(np.diff(distances, append=np.inf) > 0) + 1
    groups = groups[: max(1, np.searchsorted(groups, NEIGHBOURS, side="right"))]
    return _Neighbours(steps[: groups[-1]], distances[groups - 1], groups)


class Distances:
    """From every place of one surface to the nearest of another, on one grid, exactly.

    Most places of a good prediction have the other surface within a voxel or two: those look up their neighbours, one
    after the other, in a mask of the other surface. A tree of the other surface answers for the rest. How many
    neighbours are worth looking up, if any, a sample of the places tells.

    Args:
        shape: of the grid.
        voxel: size along each axis.
    """

    def __init__(self, shape: tuple[int, ...], voxel: NDArray[np.float64]) -> None:
        self.shape = shape
        self.voxel = voxel
        self.near = _neighbours(tuple(voxel.tolist()))
        self.reach = np.abs(self.near.steps).max(axis=0)
        wide = tuple(int(n + 2 * r) for n, r in zip(shape, self.reach))
        self.mask = np.zeros(wide, dtype=bool).reshape(-1)
        strides = np.array([int(np.prod(wide[axis + 1 :])) for axis in range(len(wide))], dtype=np.intp)
        self.strides = strides
        self.steps = self.near.steps @ strides

    def between(self, one: NDArray[np.intp], other: NDArray[np.intp]) -> tuple[NDArray[np.float64], ...]:
        """There and back: flat indices in, two arrays of distances out."""
        points = [np.stack(np.unravel_index(index, self.shape), axis=1) for index in (one, other)]
        places = [(p + self.reach) @ self.strides for p in points]
        return self._nearest(places, points), self._nearest(places[::-1], points[::-1])

    def _nearest(self, places: list[NDArray[np.intp]], points: list[NDArray[np.intp]]) -> NDArray[np.float64]:
        source, target = places
        distances = np.zeros(len(source))
        self.mask[target] = True
        left = np.flatnonzero(~self.mask[source])  # places in common, often half, are done
        if left.size:
            left = self._look_around(source, left, len(target), distances)
        self.mask[target] = False
        if left.size:
            # a tree that is asked once is better built fast than balanced
            tree = cKDTree(points[1] * self.voxel, leafsize=32, balanced_tree=False, compact_nodes=False)
            distances[left] = tree.query(points[0][left] * self.voxel, workers=torch.get_num_threads())[0]
        return distances

    def _look_around(
        self, source: NDArray[np.intp], left: NDArray[np.intp], targets: int, distances: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """Fill in ``distances`` to near neighbours; what is ``left`` has none."""
        here = source[left]
        begin = 0
        for group in range(self._worthwhile(here, targets)):
            end = int(self.near.ends[group])
            hit = self.mask[here + self.steps[begin]]
            for step in self.steps[begin + 1 : end]:
                hit |= self.mask[here + step]
            begin = end
            if hit.any():
                distances[left[hit]] = self.near.distances[group]
                away = ~hit
                left, here = left[away], here[away]
                if not left.size:
                    break
        return left

    def _worthwhile(self, here: NDArray[np.intp], targets: int) -> int:
        """Of how many groups of neighbours it pays to look up all."""
        sample = here[:: -(-len(here) // SAMPLE)]
        hits = self.mask[sample[:, None] + self.steps]
        first = np.where(hits.any(axis=1), hits.argmax(axis=1), len(self.steps))
        ends = np.concatenate([[0], self.near.ends])
        still = (first[:, None] >= ends).mean(axis=0)  # share of the places without a neighbour before each end
        looking = np.concatenate([[0], np.cumsum(still[:-1] * np.diff(ends))]) * LOOK * len(here)
        asking = ASK / torch.get_num_threads() * still * len(here) + np.where(still > 0, PLANT * targets, 0)
        return int(np.argmin(looking + asking))
