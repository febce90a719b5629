# SPDX-License-Identifier: Apache-2.0
"""Outlines of a mask that, filled again, give the mask: around islands, and around holes by way of a keyhole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from contourpy import FillType, contour_generator

__all__ = ["outlines"]


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """One closed outline for each island of a slice, half-way between the centres of its pixels and of those around.

    A hole belongs to the outline of its island: a channel without width (a keyhole) leads to it and back, as DICOM
    recommends. So fillers agree on it, whether they take the union of outlines or count how often one goes around; and
    no outline goes through the centre of a pixel, so they agree on those.

    Args:
        mask: ``(rows, columns)``, of booleans.

    Returns:
        arrays ``(points, 2)`` of column and row, which are whole numbers at the centres of pixels. The last point is
        not the first.

    Examples::

        >>> outlines(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], bool))
        [array([[0.5, 1. ],
               [1. , 0.5],
               [1.5, 1. ],
               [1. , 1.5]])]
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return []
    part = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    corner = np.array([columns[0] - 1, rows[0] - 1])
    filled = contour_generator(z=part.astype(float), fill_type=FillType.OuterOffset).filled(0.5, 2)
    return [
        _joined([_corners(points[begin : end - 1] + corner) for begin, end in pairwise(offsets)])
        for points, offsets in zip(*filled, strict=True)
    ]


def _corners(ring: np.ndarray) -> np.ndarray:
    """Without the points on straight lines."""
    after = np.roll(ring, -1, axis=0) - ring
    before = np.roll(after, 1, axis=0)
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _joined(rings: list[np.ndarray]) -> np.ndarray:
    """The outer ring with the holes behind it, each by a channel to its right; what lies there is joined before."""
    outer, *holes = rings
    for hole in sorted(holes, key=lambda ring: -ring[:, 0].max()):
        hole = np.roll(hole, -int(hole[:, 0].argmax()), axis=0)
        # a quarter of a pixel from the row's centre, where neither a centre nor a corner of an outline lies
        start = hole[0] + (hole[1] - hole[0]) / (4 * abs(hole[1, 1] - hole[0, 1]))
        ends = np.roll(outer, -1, axis=0)
        crossing = np.flatnonzero((outer[:, 1] <= start[1]) != (ends[:, 1] <= start[1]))
        share = (start[1] - outer[crossing, 1]) / (ends[crossing, 1] - outer[crossing, 1])
        x = outer[crossing, 0] + share * (ends[crossing, 0] - outer[crossing, 0])
        nearest = np.where(x > start[0], x, np.inf).argmin()
        there, at = [x[nearest], start[1]], crossing[nearest] + 1
        outer = np.concatenate([outer[:at], [there, start], hole[1:], hole[:1], [start, there], outer[at:]])
    return outer
