# SPDX-License-Identifier: Apache-2.0
"""Time and memory of ``label_metrics`` (Dice and HD95) against MONAI and MedPy, on label maps like abdominal CT.

    python -m benchmarks.metrics                      # about twenty minutes on two cores
    python -m benchmarks.metrics --quick              # one minute, smaller maps
    python -m benchmarks.metrics --only blobs,noise   # cases with one of these words in their name

The sides run alternately in one process, ``--repeats`` times, and their results are compared each time. All that a side
needs to get from label maps to numbers counts, so MONAI's one-hot encoding does. 104 one-hot classes do not fit into
memory: there MONAI sees one class at a time. That takes long, as does MedPy, so these cases have smaller maps.
``surface-distance`` takes part where it is installed; it weighs surface elements by their area, so that its HD95 is a
number of its own, and only Dice is compared. "Trees alone" is ``label_metrics`` that asks a k-d tree for every
distance, as it did before it looked near neighbours up; "all metrics" has NSD, ASSD and volumes beside Dice and HD95,
against Dice and HD95 by trees alone. A class that only one map holds is not compared: MONAI has no value for it. Peak
memory is that of a process of its own, less what it held before the call (Linux only).
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from medpy.metric import binary
from monai.metrics import compute_dice, compute_hausdorff_distance
from monai.networks.utils import one_hot

from benchmarks.machine import cpu_model, memory_taken
from monai_ext.metrics import label_metrics, surfaces

Maps = tuple[np.ndarray, np.ndarray]
Scores = dict[str, np.ndarray]
SPACING = (0.8, 0.8, 3.0)


def make_maps(shape: tuple[int, int, int], organs: int, stray: bool) -> Maps:
    """Return prediction and truth: ellipsoids, misplaced by about a voxel; with ``stray``, far-away false positives."""
    rng = np.random.default_rng(0)
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    pred, label = np.zeros((2, *shape), dtype=np.uint8)
    size = 0.12 * min(1.0, (8 / organs) ** (1 / 3))
    for index in range(1, organs + 1):
        centre = rng.uniform(0.25, 0.75, size=3) * shape
        radii = rng.uniform(0.6, 1.2, size=3) * size * shape
        for target, jitter in ((label, 0.0), (pred, 1.0)):
            c, r = centre + jitter * rng.normal(size=3), radii + jitter * rng.normal(size=3)
            box = tuple(
                slice(max(0, int(a - b) - 1), min(n, int(a + b) + 2)) for a, b, n in zip(c, r, shape, strict=True)
            )
            axes = [g[tuple(b if n > 1 else slice(None) for b, n in zip(box, g.shape, strict=True))] for g in grid]
            inside = sum(((g - a) / max(b, 1.0)) ** 2 for g, a, b in zip(axes, c, r, strict=True)) <= 1.0
            target[box][inside] = index
    if stray:
        for index in range(1, organs + 1):
            pred[0, 0, index], pred[-1, -1, -index] = index, index
    return pred, label


def make_blobs(shape: tuple[int, int, int], organs: int) -> Maps:
    """Return prediction and truth that fill the volume: what lies nearest to each of some points, moved by a voxel."""
    rng = np.random.default_rng(1)
    centres = rng.uniform(size=(organs, 3)) * shape
    maps = []
    for jitter in (1.0, 0.0):
        nearest, least = np.zeros(shape, dtype=np.uint8), np.full(shape, np.inf, dtype=np.float32)
        for index, centre in enumerate(centres + jitter * rng.normal(size=centres.shape), start=1):
            axes = [np.arange(n, dtype=np.float32) - np.float32(c) for n, c in zip(shape, centre, strict=True)]
            grid = np.ix_(*(a * s for a, s in zip(axes, SPACING, strict=True)))
            distance = sum(a**2 for a in grid)
            closer = distance < least
            nearest[closer], least[closer] = index, distance[closer]
        maps.append(nearest)
    return maps[0], maps[1]


def make_noise(shape: tuple[int, int, int], organs: int) -> Maps:
    rng = np.random.default_rng(2)
    pred, label = rng.integers(0, organs + 1, size=(2, *shape), dtype=np.uint8)
    return pred, label


def ours(maps: Maps, organs: int, convention: str = "monai") -> Scores:
    return label_metrics(*maps, organs + 1, SPACING, convention=convention, metrics=("dice", "hd95"))


def trees_alone(maps: Maps, organs: int) -> Scores:
    with mock.patch.object(surfaces.Distances, "_worthwhile", return_value=0):
        return ours(maps, organs)


def all_metrics(maps: Maps, organs: int) -> Scores:
    return label_metrics(*maps, organs + 1, SPACING, tolerances=2.0)


def ours_transunet(maps: Maps, organs: int) -> Scores:
    return ours(maps, organs, convention="transunet")


def monai(maps: Maps, organs: int) -> Scores:
    pred, label = (one_hot(torch.from_numpy(m)[None, None], organs + 1, dtype=torch.float32) for m in maps)
    return {
        "dice": compute_dice(pred, label, include_background=False)[0].numpy(),
        "hd95": compute_hausdorff_distance(pred, label, percentile=95, spacing=SPACING)[0].numpy(),
    }


def monai_by_class(maps: Maps, organs: int) -> Scores:
    rows = []
    for index in range(1, organs + 1):
        pred, label = (torch.from_numpy(m == index)[None, None].float() for m in maps)
        distance = compute_hausdorff_distance(pred, label, include_background=True, percentile=95, spacing=SPACING)
        rows.append((compute_dice(pred, label).item(), distance.item()))
    return dict(zip(("dice", "hd95"), np.array(rows).T, strict=True))


def medpy(maps: Maps, organs: int) -> Scores:
    masks = [tuple(m == index for m in maps) for index in range(1, organs + 1)]
    return {"dice": np.array([binary.dc(*m) for m in masks]), "hd95": np.array([binary.hd95(*m) for m in masks])}


def surface_distance(maps: Maps, organs: int) -> Scores:
    import surface_distance as package

    dice = []
    for index in range(1, organs + 1):
        pred, label = (m == index for m in maps)
        distances = package.compute_surface_distances(label, pred, SPACING)
        package.compute_robust_hausdorff(distances, 95)
        dice.append(package.compute_dice_coefficient(label, pred))
    return {"dice": np.array(dice)}


SIDES: dict[str, Callable[[Maps, int], Scores]] = {
    f.__name__: f
    for f in (ours, ours_transunet, trees_alone, all_metrics, monai, monai_by_class, medpy, surface_distance)
}
FULL, EIGHTH, SMALL, TINY = (512, 512, 148), (256, 256, 74), (192, 192, 56), (96, 96, 40)
BLOBS, NOISE = (256, 256, 96), (96, 96, 64)
CASES = {  # name: shape, shape with --quick, organs, stray voxels (or what fills the volume), our side, the other
    "8 organs": (FULL, SMALL, 8, False, "ours", "monai"),
    "8 organs, stray voxels": (FULL, SMALL, 8, True, "ours", "monai"),
    "104 classes": (EIGHTH, TINY, 104, False, "ours", "monai_by_class"),
    "8 organs, MedPy": (SMALL, TINY, 8, False, "ours_transunet", "medpy"),
    "8 blobs that fill": (BLOBS, TINY, 8, make_blobs, "ours", "monai"),
    "8 blobs that fill, trees alone": (BLOBS, TINY, 8, make_blobs, "ours", "trees_alone"),
    "noise": (NOISE, TINY, 8, make_noise, "ours", "monai"),
    "noise, trees alone": (NOISE, TINY, 8, make_noise, "ours", "trees_alone"),
    "8 organs, trees alone": (FULL, SMALL, 8, False, "ours", "trees_alone"),
    "8 organs, all metrics, trees alone": (FULL, SMALL, 8, False, "all_metrics", "trees_alone"),
    "8 blobs that fill, all metrics, trees alone": (BLOBS, TINY, 8, make_blobs, "all_metrics", "trees_alone"),
    "8 organs, surface-distance": (FULL, SMALL, 8, False, "ours", "surface_distance"),
    "8 organs, stray voxels, surface-distance": (FULL, SMALL, 8, True, "ours", "surface_distance"),
}


def peak_memory(case: str, side: str, quick: bool) -> float:
    """Return the MiB that one call adds, measured in a new process."""
    command = [sys.executable, "-m", "benchmarks.metrics", "--peak", case, side, *(["--quick"] if quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def load(case: str, quick: bool) -> tuple[Maps, int]:
    shape, small, organs, kind, *_ = CASES[case]
    shape = small if quick else shape
    return (kind(shape, organs) if callable(kind) else make_maps(shape, organs, kind)), organs


def print_peak(case: str, side: str, quick: bool) -> None:
    maps, organs = load(case, quick)
    print(memory_taken(lambda: SIDES[side](maps, organs)))


def compare(case: str, repeats: int, quick: bool) -> str:
    maps, organs = load(case, quick)
    sides = CASES[case][4:]
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        scores = []
        for side in sides:
            start = time.perf_counter()
            scores.append(SIDES[side](maps, organs))
            seconds[side].append(time.perf_counter() - start)
        for name, values in scores[1].items():
            # MONAI's float32 percentile rounds its rank
            held = np.isfinite(values)
            np.testing.assert_allclose(
                scores[0][name][held], values[held], rtol=1e-4, atol=1e-5, err_msg=f"{case}: {name}"
            )
    mine, other = (np.array(seconds[side]) for side in sides)
    ratios = other / mine
    memory = [peak_memory(case, side, quick) for side in sides]
    return (
        f"| {case} | {'x'.join(map(str, maps[0].shape))} | {np.median(mine):.2f} ({mine.min():.2f}-{mine.max():.2f}) "
        f"| {sides[1]} | {np.median(other):.2f} ({other.min():.2f}-{other.max():.2f}) "
        f"| {np.median(ratios):.1f} ({ratios.min():.1f}-{ratios.max():.1f}) | {memory[0]:.0f} | {memory[1]:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller maps")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="words with commas between; cases with one of them in their name")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.peak:
        print_peak(*options.peak, options.quick)
        return
    machine = f"{cpu_model()}, {torch.get_num_threads()} threads"
    print(f"{machine}, {options.repeats} alternating runs: median (minimum-maximum)\n")
    print("| case | voxels | label_metrics [s] | other | [s] | ratio | memory [MiB] | other [MiB] |")
    print("|---|---|---|---|---|---|---|---|")
    for case, (*_, other) in CASES.items():
        if other == "surface_distance" and importlib.util.find_spec(other) is None:
            continue
        if any(word in case for word in options.only.split(",")):
            print(compare(case, options.repeats, options.quick), flush=True)


if __name__ == "__main__":
    main()
