# SPDX-License-Identifier: Apache-2.0
"""The rules that make a plan of what was found in the data; each says why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from .survey import Survey

__all__ = [
    "SIDE",
    "check_spacings",
    "intensity_window",
    "mirror_axes",
    "picture_plan",
    "slice_network",
    "slice_plan",
    "tissue_contrast",
]

SOFT_TISSUE = (-175.0, 275.0)  # HU, fat to organs with contrast medium
SIDE = 32  # image sizes are multiples of it
PIXELS_ACROSS = 3  # the thinnest class, at the least
FINER = 1.5  # times the scans' own pixels, at the most: four windows see a slice, with 2 it would take nine
ODD_PIXEL, ODD_STEP = 5, 10  # times the median within a slice, and from slice to slice: no scanner's
OFF_CENTRE = 0.05  # of a picture's length: closer to the middle is in it
AXES = ("first (right to left in axial planes)", "second (front to back in axial planes)", "third (feet to head)")


def intensity_window(found: Survey) -> tuple[list[int], str]:
    """The window of a CT, in HU, and why.

    Of each class it takes the 0.5th to the 99.5th percentile, but no more than 4 robust standard deviations to each
    side of its median, both medians over the cases: gas in a stomach (-600 HU) or a stone does not stretch the window
    of all. Fat and water stay apart around the organs: half as wide again as the labelled tissue, in steps of 5 HU.
    Labelled soft tissue gets at least -175 to 275 HU. Contrast medium lifts an organ by more than 100 HU, and scans
    with and without it shall be seen by the same network, even if it was trained on one kind only.
    """
    ranges = []
    medians = []
    for cases in found.tissue.values():
        low, median, high, spread = np.median(np.array(cases), axis=0).tolist()
        ranges.append((max(low, median - 4 * spread), min(high, median + 4 * spread)))
        medians.append(median)
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    text = f"around the classes' own values ({low:.0f} to {high:.0f} without outliers)"
    margin = max(50.0, (high - low) / 4)
    window = [low - margin, high + margin]
    if SOFT_TISSUE[0] < min(medians) and max(medians) < SOFT_TISSUE[1]:
        window = [min(window[0], SOFT_TISSUE[0]), max(window[1], SOFT_TISSUE[1])]
        text += ", wide enough for soft tissue with and without contrast medium"
    window = [int(5 * np.floor(window[0] / 5)), int(5 * np.ceil(window[1] / 5))]
    return window, f"intensity_window: {window[0]} to {window[1]} HU, {text}."


def tissue_contrast(found: Survey) -> tuple[list[float], str]:
    """By which factors training makes classes brighter or darker, and why.

    Contrast medium makes organs brighter. Where training scans have none (no class above 100 HU), more is imagined;
    where they have some, less. MR has no scale of its own: as much to either side.
    """
    if found.modality != "CT":
        return [-0.3, 0.3], "tissue_contrast: 0.7 to 1.3 times, as sequences and scanners differ."
    brightest = max(float(np.median([case.median for case in cases])) for cases in found.tissue.values())
    if brightest < 100:
        return [-0.2, 0.8], (
            f"tissue_contrast: 0.8 to 1.8 times; the brightest class has {brightest:.0f} HU (median), contrast medium "
            "would lift it."
        )
    return [-0.5, 0.4], (
        f"tissue_contrast: 0.5 to 1.4 times; the brightest class has {brightest:.0f} HU (median), without contrast "
        "medium it would have less."
    )


def mirror_axes(
    centres: Mapping[str, Mapping[int, Collection[float]]], axes: int = 2, names: Mapping[int, str] | None = None
) -> tuple[list[int], str]:
    """The axes along which training may mirror, and why.

    A mirrored body has its liver on the left: right for skin, polyps and vessels, wrong where a class has a side. A
    class has one along an axis if its middle lies off the picture's, or off another class's, by a twentieth of the
    picture on average over the cases that show it, and more than twice the standard error. Two or three cases leave
    chance a part in it; then mirroring is given up too often rather than too seldom.

    Args:
        centres: case -> label value -> middle along each axis, 0 to 1.
        axes: how many axes to decide on.
        names: of label values, for the reason.
    """
    named = {value: (names or {}).get(value, f"label {value}") for case in centres.values() for value in case}
    mirrored, reasons = [], []
    for axis in range(axes):
        offsets: dict[str, list[float]] = {}
        for case in centres.values():
            at = {value: list(centre)[axis] for value, centre in case.items()}
            for value, place in at.items():
                offsets.setdefault(f"{named[value]} lies off the middle", []).append(place - 0.5)
            for a, b in combinations(sorted(at), 2):
                offsets.setdefault(f"{named[a]} and {named[b]} lie apart", []).append(at[a] - at[b])
        sides = {text: _side(found) for text, found in offsets.items()}
        text = max(sides, key=lambda text: sides[text], default="")
        if text and sides[text]:
            reasons.append(f"not along the {AXES[axis]}: {text}, by {sides[text]:.0%} of it")
        else:
            mirrored.append(axis)
            reasons.append(f"along the {AXES[axis]}: no class has a side there")
    return mirrored, f"mirror_axes: {'; '.join(reasons)}."


def check_spacings(found: Survey, images: Mapping[str, str]) -> None:
    """Refuse a scan whose voxels are of another order of size than the others': its header is wrong.

    Args:
        found: of ``images``, in their order.
        images: case -> file.

    Raises:
        ValueError: names the file.
    """
    if len(found.spacings) < 3:
        return
    spacings = np.array(found.spacings)
    median = np.median(spacings, axis=0)
    for (_case, path), spacing in zip(images.items(), spacings, strict=True):
        ratio = np.maximum(spacing / median, median / spacing)
        if (ratio > (ODD_PIXEL, ODD_PIXEL, ODD_STEP)).any():
            voxel, others = ("x".join(f"{side:.3g}" for side in sides) for sides in (spacing, median))
            raise ValueError(
                f"monai_ext: {path}: voxels of {voxel} mm, the median of all scans is {others} mm. Correct its header, "
                "or leave the case out of the list."
            )


def slice_network(anywhere: bool) -> tuple[str | None, dict[str, Any], str]:
    """Which network sees slices, its options, and why; None is the recipe's own, DCAU-Net.

    By a real CT and a phantom of tumours (``docs/results/own_data.md``). Where classes have their places, as organs
    have, DCAU-Net learns most in as many steps, and is best on other scanners; QTSeg needs half of its time. Where they
    lie anywhere, as tumours do, a U-Net at full resolution is better than both: the one with Dual Cross-Attention, at
    half of its paper's width.

    Args:
        anywhere: no class has a place of its own, see :func:`mirror_axes`.
    """
    if anywhere:
        reason = "network: unet_dca, at half of its paper's width: no class has a place of its own."
        return "unet_dca", {"features": [16, 32, 64, 128, 256]}, reason
    return None, {}, "network: dcaunet, as classes have their places; --network qtseg learns in half of the time."


def slice_plan(found: Survey, published: int, anywhere: bool = False) -> tuple[float, list[int], str]:
    """The pixel in mm at which a 2D network sees slices, the size of its view, and why.

    A pixel means the same in every scan, and both axes have the same: an organ has one size and one shape, whichever
    field of view it was recorded with. Pixels are as fine as the scans' (median), but coarser where that lets the
    network see a whole slice at the size of its recipe, as context decides what an organ is, as far as the thinnest
    class stays 3 pixels across. Where slices are larger than the view then, training cuts views and inference averages
    overlapping ones.

    Where no class has a place of its own, as a tumour has none, and one is thinner than 3 pixels, pixels are finer than
    the scans', up to one and a half times, in a view of as many pixels: the networks' first maps have a quarter of the
    pixels a side, and context says little. Organs in such views, which show part of a body, are taken for others.

    Args:
        found: of volumes.
        published: the side at which the recipe's network sees slices.
        anywhere: no class has a place of its own, see :func:`mirror_axes`.
    """
    native = float(np.median([spacing[:2] for spacing in found.spacings]))
    extents = np.array(
        [[n * side for n, side in zip(shape[:2], spacing[:2])] for shape, spacing in zip(found.shapes, found.spacings)]
    )
    extent = np.median(extents, axis=0)
    thinnest = min(float(np.median(widths)) for widths in found.widths.values())
    whole = float(extent.max()) / published
    finest = min(native, max(whole, native / FINER)) if anywhere else native
    pixel = float(f"{np.clip(thinnest / PIXELS_ACROSS, finest, max(native, whole)):.3g}")
    needed = [SIDE * int(np.ceil(side / max(pixel, native) / SIDE - 1e-6)) for side in extent]
    view = [int(np.clip(side, 2 * SIDE, max(published, 2 * SIDE))) for side in needed]
    covered = all(n * pixel >= side * (1 - 1e-6) for n, side in zip(view, extent))
    seen = "whole slices" if covered else "part of a slice at once"
    reason = (
        f"spacing: {pixel:g} mm a pixel in every scan (the scans' own {native:.3g}, median; the thinnest class is "
        f"{thinnest:.3g} mm across); image_size: {view[0]}x{view[1]}, {seen} (median {extent[0]:.0f}x{extent[1]:.0f} "
        "mm)."
    )
    return pixel, view, reason


def picture_plan(found: Survey, published: int) -> tuple[float | None, str]:
    """By how much pictures are made smaller, where the network then sees windows of them; None where it sees all.

    A whole picture at the size of the recipe is best as long as the thinnest class stays 3 pixels across. A vessel of
    3 pixels in 2048 would be gone at 512: then pictures keep as many pixels as that class needs, training cuts views of
    the recipe's size, a third of them around what is labelled, and inference averages overlapping windows.

    Args:
        found: of pictures.
        published: the side at which the recipe's network sees a picture.
    """
    longest = float(np.median([max(shape[:2]) for shape in found.shapes]))
    thinnest = min(float(np.median(widths)) for widths in found.widths.values())
    whole = longest / published
    smaller = max(1.0, thinnest / PIXELS_ACROSS)
    if smaller >= whole:
        return None, ""
    smaller = 1.0 if smaller < 1.25 else float(f"{smaller:.3g}")
    seen = "pictures keep their pixels" if smaller == 1 else f"pictures are made {smaller:g} times smaller"
    return smaller, (
        f"image_size: windows of {published} pixels, as the thinnest class is {thinnest:.3g} pixels across in pictures "
        f"of {longest:.0f} and would be lost in {published}; {seen}."
    )


def _side(offsets: list[float]) -> float:
    """How far to one side, 0 if to none."""
    mean, error = abs(float(np.mean(offsets))), float(np.std(offsets)) / len(offsets) ** 0.5
    return mean if mean > OFF_CENTRE and mean > 2 * error else 0.0
