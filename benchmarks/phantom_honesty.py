# SPDX-License-Identifier: Apache-2.0
"""How far intensity alone gets on the CT phantom: it must not give the organs away.

A phantom whose organs could be told by their brightness would make any network look good. Here the most generous
baseline without anatomy: cut the intensities of a volume into clusters or intervals, and give each one, knowing the
truth of that very volume, to the organ (or to background) where it raises the mean Dice of the 8 organs most.

    python -m benchmarks.phantom_honesty [--cases 12] [--seed 0]

Measured on the 12 test cases of seed 0 (mean Dice of the 8 organs, and that of the case where it is highest): k-means
with 12 clusters 0.16 (0.20), 40 thresholds 0.21 (0.26), 40 thresholds after smoothing 0.24 (0.30).
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans

from monai_ext.phantoms import ct_phantom_case, ct_phantom_case_ids

ORGANS = {
    8: "aorta",
    4: "gallbladder",
    3: "left kidney",
    2: "right kidney",
    6: "liver",
    11: "pancreas",
    1: "spleen",
    7: "stomach",
}
WINDOW = (-125.0, 275.0)


def best_assignment(sizes: NDArray, hits: NDArray, totals: NDArray) -> NDArray:
    """Dice of each organ under the assignment of clusters to organs (or background) that maximises their mean.

    One cluster after the other goes where it helps most, until no move helps; the best of several starts.

    Args:
        sizes: voxels in every cluster, ``(clusters,)``.
        hits: voxels of every cluster in every organ, ``(clusters, organs)``.
        totals: voxels of every organ, ``(organs,)``.
    """
    clusters, organs = hits.shape
    rng = np.random.default_rng(0)
    purest, largest = hits.argmax(1), (hits / np.maximum(totals, 1)).argmax(1)
    best = np.zeros(organs)
    for start in [np.full(clusters, organs), purest, largest, *rng.integers(0, organs + 1, (8, clusters))]:
        owner = start.copy()  # the number of organs stands for background
        given = np.array([sizes[owner == c].sum() for c in range(organs)])
        right = np.array([hits[owner == c, c].sum() for c in range(organs)])
        moved = True
        while moved:
            moved = False
            for k in range(clusters):
                old = owner[k]
                if old < organs:
                    given[old] -= sizes[k]
                    right[old] -= hits[k, old]
                gain = 2 * (right + hits[k]) / (given + sizes[k] + totals) - 2 * right / np.maximum(given + totals, 1)
                new = int(gain.argmax()) if gain.max() > 1e-12 else organs
                if new < organs:
                    given[new] += sizes[k]
                    right[new] += hits[k, new]
                stays = old < organs and new < organs and gain[new] - gain[old] < 1e-12
                owner[k] = new
                moved |= new != old and not stays
        dice = 2 * right / np.maximum(given + totals, 1)
        best = max(best, dice, key=np.mean)
    return best


def intensity_baseline(
    image: NDArray, label: NDArray, ways: tuple[int | str, ...] = (4, 8, 12, 40)
) -> dict[str, NDArray]:
    """Dice of the 8 organs (in the order of ``ORGANS``) that intensity alone can reach.

    Args:
        image: HU.
        label: the publisher's codes.
        ways: a number up to 12: k-means of that many clusters; above: that many equal intervals of the window, each of
            them free to go anywhere (any set of thresholds is such a choice).
    """
    levels = np.clip((image.astype(np.float32) - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)
    bins = np.minimum((levels * 400).astype(int), 399)  # 1 HU: k-means on the histogram is k-means on the voxels
    table = np.bincount((bins * 14 + label).ravel(), minlength=400 * 14).reshape(400, 14)
    codes = list(ORGANS)
    totals = table[:, codes].sum(0)
    result = {}
    for way in ways:
        number = int(way)
        if number <= 12:
            model = KMeans(min(number, np.count_nonzero(table.sum(1))), n_init=3, random_state=0)
            cluster = model.fit_predict(np.arange(400.0)[:, None], sample_weight=table.sum(1))
            name = f"k-means {number}"
        else:
            cluster, name = np.arange(400) * number // 400, f"{number} thresholds"
        sizes = np.bincount(cluster, weights=table.sum(1), minlength=number)
        hits = np.stack([np.bincount(cluster, weights=table[:, c], minlength=number) for c in codes], 1)
        result[name] = best_assignment(sizes, hits, totals)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=12, help="number of test cases, 1 to 12")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows: dict[str, list[NDArray]] = {}
    for case in ct_phantom_case_ids()[1][: arguments.cases]:
        made = ct_phantom_case(case, arguments.seed)
        for name, dice in intensity_baseline(made.image, made.label).items():
            rows.setdefault(name, []).append(dice)
        # noise removed first, with the body's own sharpness lost
        smooth = gaussian_filter(made.image.astype(np.float32), [1.2 if n > 80 else 0.5 for n in made.image.shape])
        for name, dice in intensity_baseline(smooth, made.label, (12, 40)).items():
            rows.setdefault(f"smoothed, {name}", []).append(dice)
    print(f"{'':24}" + "".join(f"{name:>14}" for name in ORGANS.values()) + f"{'mean':>8}{'worst':>8}")
    for name, dice in rows.items():
        cases = np.array(dice)
        organs = "".join(f"{v:14.3f}" for v in cases.mean(0))
        print(f"{name:24}{organs}{cases.mean():8.3f}{cases.mean(1).max():8.3f}")


if __name__ == "__main__":
    main()
