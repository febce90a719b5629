# SPDX-License-Identifier: Apache-2.0
"""How far colour alone gets on the picture phantoms: it must not give the objects away.

Three baselines without shape or texture, for the foreground of each generator:

* k-means: the pixels of a picture in 2 to 5 clusters by RGB; the union of clusters that fits the truth of that very
  picture best. No method could know which one: an upper limit.
* threshold: above or below one level of grey, red, green, blue or saturation; channel, direction and level chosen on
  training cases where they give the best mean Dice.
* rank: the same, but each channel is first replaced by the rank of its pixels within their picture, so exposure and
  contrast do not matter.

    python -m benchmarks.picture_honesty [--cases 12] [--seed 0] [--size 192 256]

Measured with the defaults (mean Dice over 12 cases that the 12 training cases do not contain):

    =====================  =======  =========  ====
    phantom                k-means  threshold  rank
    =====================  =======  =========  ====
    skin lesion               0.59       0.23  0.27
    polyp                     0.17       0.10  0.13
    breast nodule             0.13       0.09  0.10
    glands                    0.49       0.38  0.37
    nuclei, H&E               0.61       0.61  0.56
    nuclei, fluorescence      0.72       0.58  0.49
    vessels                   0.28       0.31  0.34
    =====================  =======  =========  ====
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.cluster import KMeans

from monai_ext import phantoms
from monai_ext.phantoms import PictureCase

Generator = Callable[..., PictureCase]


def breast_case(seed: int, size: tuple[int, int] = (192, 256)) -> PictureCase:
    """Benign and malignant nodules by turns."""
    return phantoms.breast_nodule_case(seed, size, malignant=seed % 2 == 1)


#: what is measured, and the mean Dice that a threshold must stay below
GENERATORS: dict[str, tuple[Generator, float]] = {
    "skin lesion": (phantoms.skin_lesion_case, 0.5),
    "polyp": (phantoms.polyp_case, 0.5),
    "breast nodule": (breast_case, 0.5),
    "glands": (phantoms.gland_case, 0.5),
    "nuclei, H&E": (phantoms.nuclei_case, 0.65),
    "nuclei, fluorescence": (partial(phantoms.nuclei_case, stain="fluorescence"), 0.65),
    "vessels": (phantoms.vessel_case, 0.65),
}
LEVELS = 256


def channels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey, red, green, blue and saturation, ``(5, H, W)``."""
    rgb = image.astype(np.float32)
    grey = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    high, low = rgb.max(-1), rgb.min(-1)
    saturation = 255 * (high - low) / np.maximum(high, 1)
    return np.rint([grey, *np.moveaxis(rgb, -1, 0), saturation]).astype(np.uint8)


def ranks(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The share of the picture that is darker, 0 to 255."""
    return (rankdata(channel, "average").reshape(channel.shape) * ((LEVELS - 1) / channel.size)).astype(np.uint8)


def threshold_dice(values: NDArray[np.uint8], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dice of "at or above" and "below" every level of every channel, ``(channels, 2, 256)``."""
    result = []
    for channel in values:
        size = np.bincount(channel.ravel(), minlength=LEVELS)
        hits = np.bincount(channel[truth], minlength=LEVELS)
        below = np.stack([np.cumsum(a) - a for a in (size, hits)])
        both = np.stack([below[:, :1] * 0 + [[size.sum()], [hits.sum()]] - below, below])
        result.append(2 * both[:, 1] / np.maximum(both[:, 0] + hits.sum(), 1))
    return np.array(result)


def threshold_baseline(training: Sequence[PictureCase], test: Sequence[PictureCase], rank: bool = False) -> float:
    """Mean Dice on ``test`` of the one threshold that has the best mean Dice on ``training``."""
    tables = []
    for cases in (training, test):
        dice: list[NDArray[np.float64]] = []
        for case in cases:
            values = channels(case.image)
            values = np.array([ranks(v) for v in values]) if rank else values
            dice.append(threshold_dice(values, case.objects > 0))
        tables.append(np.mean(dice, axis=0))
    return float(tables[1].flat[tables[0].argmax()])


def cluster_baseline(case: PictureCase, clusters: Sequence[int] = (2, 3, 4, 5)) -> float:
    """Dice of the union of clusters by colour that fits the truth best."""
    colours = case.image.reshape(-1, 3).astype(np.float32)
    truth = case.objects.ravel() > 0
    best = 0.0
    for k in clusters:
        model = KMeans(k, n_init=1, random_state=0).fit(colours[::7])
        owner = model.predict(colours)
        size, hits = np.bincount(owner, minlength=k), np.bincount(owner[truth], minlength=k)
        for n in range(1, k):
            for chosen in combinations(range(k), n):
                index = list(chosen)
                best = max(best, 2 * hits[index].sum() / (size[index].sum() + truth.sum()))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=12, help="training cases, and as many test cases")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256))
    arguments = parser.parse_args()
    print(f"{'':22}{'k-means':>10}{'threshold':>11}{'rank':>8}{'limit':>8}{'area':>8}{'objects':>9}{'ms':>7}")
    for name, (generator, limit) in GENERATORS.items():
        generator(arguments.seed)  # the first call loads what the others find loaded
        start = time.process_time()
        cases = [generator(arguments.seed + i, tuple(arguments.size)) for i in range(2 * arguments.cases)]
        ms = 1000 * (time.process_time() - start) / len(cases)
        training, test = cases[: arguments.cases], cases[arguments.cases :]
        clusters = np.mean([cluster_baseline(case) for case in test])
        plain, rank = (threshold_baseline(training, test, rank) for rank in (False, True))
        area = np.mean([(case.objects > 0).mean() for case in cases])
        number = np.mean([len(case.kinds) for case in cases])
        print(f"{name:22}{clusters:10.2f}{plain:11.2f}{rank:8.2f}{limit:8.2f}{area:8.3f}{number:9.1f}{ms:7.0f}")


if __name__ == "__main__":
    main()
