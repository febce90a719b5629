# SPDX-License-Identifier: Apache-2.0
"""The rules that plan a network in 3D: voxels, patch, batch, and whether it is one; each says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .memory import WORKSPACE
from .planning import PIXELS_ACROSS
from .survey import Survey

__all__ = ["NoRoomError", "VolumePlan", "flat_volumes", "target_spacing", "volume_plan"]

ANISOTROPIC = 3  # the coarsest side of a voxel over the next
LOW = 10  # percentile of a coarse axis
BATCH = 2  # patches a step, at the least: a batch of one has no mean over cases
SEEN = 0.25  # of a volume, that a patch shows at the least
OF_ALL = 0.05  # of all voxels of the data, that a batch holds at the most
COARSER = 1.02  # a step
ROUNDS = 4  # of counting a patch's memory
ROUND_VOXELS = 1.5  # sides up to this ratio: turned in any plane, voxels stay what they are


class NoRoomError(ValueError):
    """The smallest patch does not fit in the stated memory."""


class VolumePlan(NamedTuple):
    """What a network in 3D sees.

    Attributes:
        spacing: of a voxel in mm, to the left, back and head.
        size: of a patch, and of a window later.
        batch: patches a step.
        tilt: largest angle in radians by which patches are turned out of their plane.
        bytes: that a step takes, as counted.
        reason: all of it in a sentence.
    """

    spacing: list[float]
    size: list[int]
    batch: int
    tilt: float
    bytes: int
    reason: str


def flat_volumes(found: Survey, stride: int) -> str:
    """Why scans are rather slices than volumes; an empty text where they are volumes.

    Where voxels are more than 3 times as long across the slices as within them, neighbours in 3D are not neighbours in
    the body: a kernel of 3 voxels spans a centimetre and more, and nnU-Net's experience is that 2D does as well there.
    Where a volume has fewer slices than the network's stride, most of what a network in 3D computes is padding.
    """
    ratio = float(np.median([max(body.spacing) / sorted(body.spacing)[1] for body in found.body.values()]))
    fewest = float(np.median([min(body.shape) for body in found.body.values()]))
    if ratio > ANISOTROPIC:
        return f"voxels are {ratio:.3g} times as long across slices as within them (median), more than {ANISOTROPIC}"
    if fewest < stride:
        return f"volumes have {fewest:.0f} slices (median), fewer than the network's stride of {stride}"
    return ""


def target_spacing(spacings: Sequence[Sequence[float]]) -> list[float]:
    """The voxel that all scans are resized to: the median of each axis, and of a coarse axis a low percentile.

    A median is reached without inventing or losing much for most scans. Where the median's longest side is more than
    3 times the next, scans with thick slices would decide on those with thin ones, and what these show would be gone:
    the 10th percentile is taken there (nnU-Net's reasoning), though nothing shorter than the other sides.
    """
    sides = np.array(spacings)
    target = np.median(sides, axis=0)
    coarse = int(target.argmax())
    others = float(np.delete(target, coarse).max())
    if target[coarse] > ANISOTROPIC * others:
        target[coarse] = max(float(np.percentile(sides[:, coarse], LOW)), others)
    return [float(f"{side:.3g}") for side in target]


def volume_plan(found: Survey, stride: int, cost: Callable[[Sequence[int], int], int], memory: int) -> VolumePlan:
    """Voxels, patch and batch of a network in 3D.

    Voxels are :func:`target_spacing`'s. The patch is the median volume at these, its sides multiples of the network's
    stride, cut until a step with two of them fits in the memory: each time the side that shows the largest part of its
    axis, so that the patch keeps the volume's own aspect in mm. Context decides what an organ is: where the patch would
    show less than a quarter of the volume, voxels are made coarser, the finest sides first, as far as the thinnest
    class stays 3 voxels across. Where the whole volume fits, memory that is left goes to a larger batch, of a twentieth
    of all voxels at the most.

    Args:
        found: of volumes.
        stride: sides of a patch are multiples of it.
        cost: patch and batch -> bytes of a step.
        memory: bytes that there are; a quarter of them is left for what libraries take for themselves.

    Raises:
        NoRoomError: if two patches of ``stride`` voxels a side do not fit.
    """
    bodies = list(found.body.values())
    spacing = target_spacing([body.spacing for body in bodies])
    native = list(spacing)
    extent = np.median([[n * side for n, side in zip(body.shape, body.spacing)] for body in bodies], axis=0)
    thinnest = min(float(np.median(widths)) for widths in found.widths.values())
    allowed = memory / WORKSPACE
    size, per_voxel, used = _fitting(extent, spacing, stride, cost, allowed)
    wanted = math.prod(size) / SEEN
    while np.prod(extent / spacing) > wanted:
        finest = min(spacing)
        longer = [side * COARSER if side <= finest * COARSER else side for side in spacing]
        if min(longer) > max(thinnest / PIXELS_ACROSS, min(native)) or min(longer) == finest:
            break
        spacing = longer
    spacing = [float(f"{side:.3g}") for side in spacing]
    if spacing != native:
        size, per_voxel, used = _fitting(extent, spacing, stride, cost, allowed)
    whole = extent / spacing
    batch = BATCH
    if all(side >= n - 1e-6 for side, n in zip(size, whole)):
        most = OF_ALL * len(bodies) * float(np.prod(whole)) / math.prod(size)
        room = 1 + (allowed - used) / (per_voxel * BATCH * math.prod(size))
        batch = max(BATCH, int(min(most, BATCH * room)))
        if batch > BATCH:
            used = cost(size, batch)
            if used > allowed:
                batch, used = BATCH, cost(size, BATCH)
    share = float(np.prod(np.minimum(size, whole) / whole))
    tilt = 0.2 if max(spacing) <= ROUND_VOXELS * min(spacing) else 0.0
    voxel, own = ("x".join(f"{side:g}" for side in sides) for sides in (spacing, native))
    coarser = "" if spacing == native else f" (the scans' own {own}, coarser so that a patch shows more)"
    reason = (
        f"spacing: voxels of {voxel} mm{coarser}; image_size: patches of {'x'.join(map(str, size))}, multiples of "
        f"{stride}, {share:.0%} of a volume (median {extent[0]:.0f}x{extent[1]:.0f}x{extent[2]:.0f} mm); batch_size: "
        f"{batch}; a step takes {used / 1e9:.2g} of {memory / 1e9:.2g} GB, counted in float32."
    )
    return VolumePlan(spacing, size, batch, tilt, used, reason)


def _fitting(
    extent: np.ndarray,
    spacing: Sequence[float],
    stride: int,
    cost: Callable[[Sequence[int], int], int],
    allowed: float,
) -> tuple[list[int], float, int]:
    """The largest patch that fits, what one voxel of it costs, and all of it; counted anew where a guess was off."""
    whole = np.maximum(extent / np.array(spacing), 1)
    full = [stride * int(np.ceil(n / stride - 1e-6)) for n in whole]
    least = [stride] * 3
    smallest = cost(least, BATCH)
    if smallest > allowed:
        raise NoRoomError(
            f"two patches of {stride}x{stride}x{stride} voxels, the smallest, take {smallest * WORKSPACE / 1e6:.0f} MB"
        )
    tried = {tuple(least): smallest}
    size = [min(2 * stride, side) for side in full]
    for _ in range(ROUNDS):
        if tuple(size) in tried:
            break
        tried[tuple(size)] = cost(size, BATCH)
        # on along the line through the two largest that are known: a network has its own size at first
        (a, low), (b, high) = sorted((math.prod(side), taken) for side, taken in tried.items())[-2:]
        size = _cut(full, whole, stride, a, low, (high - low) / (b - a), allowed)
    used, best = max((taken, side) for side, taken in tried.items() if taken <= allowed)
    more = math.prod(best) - math.prod(least)
    return list(best), (used - smallest) / more / BATCH if more else used / math.prod(best) / BATCH, used


def _cut(
    full: Sequence[int], whole: np.ndarray, stride: int, voxels: int, taken: float, slope: float, allowed: float
) -> list[int]:
    """The largest patch for which the line says that it fits."""
    size = list(full)
    while taken + slope * (math.prod(size) - voxels) > allowed and max(size) > stride:
        longer = [axis for axis in range(3) if size[axis] > stride]
        size[max(longer, key=lambda axis: size[axis] / whole[axis])] -= stride
    return size
