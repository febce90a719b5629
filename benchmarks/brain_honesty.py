# SPDX-License-Identifier: Apache-2.0
"""How far brightness alone gets on the four-channel brain phantom: it must not give the tumour away.

The most generous baseline without anatomy: cut the four values of a volume's voxels into clusters, and give each
cluster, knowing the truth of that very volume, to the class (or to background) where it raises the mean Dice most;
regions are then made of the classes.

    python -m benchmarks.brain_honesty [--cases 10] [--seed 0]

Measured on cases 1 to 10 of seed 0 (mean Dice of the three regions, and that of the case where it is highest): 12
clusters 0.18 (0.27), 40 clusters 0.29 (0.44), 40 clusters after smoothing 0.30 (0.45).
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.cluster import KMeans

from benchmarks.phantom_honesty import best_assignment
from monai_ext.phantoms import BrainCase, brain_phantom_case

REGIONS = {"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing tumour": (3,)}
SAMPLES = 20_000  # voxels that clusters are found from


def brightness_baseline(made: BrainCase, clusters: int, smooth: float = 0.0, channels: tuple[int, ...] = ()) -> NDArray:
    """Dice of the three regions that brightness alone can reach.

    Args:
        made: a case.
        clusters: of k-means.
        smooth: standard deviation, in pixels of the slices, of a blur that takes noise away first.
        channels: those that are looked at; default: all.
    """
    body = made.images[0] > 0
    values = made.images[list(channels) or slice(None)].astype(np.float32)
    values = np.stack([gaussian_filter(v, [smooth, smooth, smooth / 2]) if smooth else v for v in values])[:, body].T
    values /= values.std(axis=0)
    truth = made.truth[body]
    rng = np.random.default_rng(0)
    model = KMeans(clusters, n_init=2, random_state=0).fit(rng.choice(values, min(SAMPLES, len(values)), replace=False))
    cluster = model.predict(values)
    best = []
    for members in REGIONS.values():  # each region has an assignment of its own, which is more than a label map has
        inside = np.isin(truth, members)
        sizes = np.bincount(cluster, minlength=clusters).astype(float)
        hits = np.bincount(cluster[inside], minlength=clusters).astype(float)[:, None]
        best.append(best_assignment(sizes, hits, np.array([float(inside.sum())]))[0])
    return np.array(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    ways = {"12 clusters": (12, 0.0), "40 clusters": (40, 0.0), "12, smoothed": (12, 1.0), "40, smoothed": (40, 1.0)}
    rows: dict[str, list[NDArray]] = {name: [] for name in ways}
    for case in range(1, arguments.cases + 1):
        made = brain_phantom_case(case, arguments.seed)
        for name, (clusters, smooth) in ways.items():
            rows[name].append(brightness_baseline(made, clusters, smooth))
    print(f"{'':16}" + "".join(f"{name:>18}" for name in REGIONS) + f"{'mean':>8}{'best case':>11}")
    for name, dice in rows.items():
        found = np.array(dice)
        print(
            f"{name:16}"
            + "".join(f"{v:18.3f}" for v in found.mean(0))
            + f"{found.mean():8.3f}{found.mean(1).max():11.3f}"
        )


if __name__ == "__main__":
    main()
