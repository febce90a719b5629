# SPDX-License-Identifier: Apache-2.0
"""How far intensity alone gets on the cardiac MR phantom: it must not give the ventricles away.

The most generous baseline without anatomy: cut the brightness of a frame into clusters or intervals, and give each one,
knowing the truth of that very frame, to the class (or to background) where it raises the mean Dice of the 3 classes
most.

    python -m benchmarks.mr_honesty [--patients 20] [--seed 0]

Measured on the 20 default patients of seed 0, two frames each (mean Dice of the 3 classes, and that of the frame where
it is highest): k-means with 3 clusters 0.10 (0.16), with 6 0.16 (0.24), 40 intervals 0.23 (0.36), 40 intervals after
smoothing 0.25 (0.40).
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans

from benchmarks.phantom_honesty import best_assignment
from monai_ext.phantoms import mr_phantom_case, mr_phantom_ids

CLASSES = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
BINS = 256


def brightness_baseline(image: NDArray, label: NDArray, ways: tuple[int, ...] = (3, 4, 5, 6, 40)) -> dict[str, NDArray]:
    """Dice of the 3 classes that brightness alone can reach.

    Args:
        image: one frame, in any unit.
        label: its classes.
        ways: a number up to 12: k-means of that many clusters; above: that many equal intervals of the range of
            brightness, each of them free to go anywhere (any set of thresholds is such a choice).
    """
    low, high = np.percentile(image, (0.1, 99.9))
    bins = np.clip((image - low) / (high - low) * BINS, 0, BINS - 1).astype(int)
    table = np.bincount((bins * 4 + label).ravel(), minlength=BINS * 4).reshape(BINS, 4)
    result = {}
    for number in ways:
        if number <= 12:
            model = KMeans(number, n_init=3, random_state=0)
            cluster = model.fit_predict(np.arange(float(BINS))[:, None], sample_weight=table.sum(1))
            name = f"k-means {number}"
        else:
            cluster, name = np.arange(BINS) * number // BINS, f"{number} intervals"
        sizes = np.bincount(cluster, weights=table.sum(1), minlength=number)
        hits = np.stack([np.bincount(cluster, weights=table[:, c], minlength=number) for c in CLASSES], 1)
        result[name] = best_assignment(sizes, hits, table[:, list(CLASSES)].sum(0))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=20, help="the first of the cohort, 5 to 100")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows: dict[str, list[NDArray]] = {}
    for patient in mr_phantom_ids(arguments.patients):
        case = mr_phantom_case(patient, arguments.seed)
        for phase, image in case.images.items():
            smooth = gaussian_filter(image.astype(np.float32), (1, 1, 0))  # noise removed first
            for prefix, picture in (("", image), ("smoothed, ", smooth)):
                for name, dice in brightness_baseline(picture, case.labels[phase]).items():
                    rows.setdefault(prefix + name, []).append(dice)
    print(f"{'':24}" + "".join(f"{name:>17}" for name in CLASSES.values()) + f"{'mean':>8}{'worst':>8}")
    for name, dice in rows.items():
        frames = np.array(dice)
        print(f"{name:24}" + "".join(f"{v:17.3f}" for v in frames.mean(0)), end="")
        print(f"{frames.mean():8.3f}{frames.mean(1).max():8.3f}")


if __name__ == "__main__":
    main()
