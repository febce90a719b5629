# SPDX-License-Identifier: Apache-2.0
"""Do the report's intervals hold the truth, and does its test cry wolf? Simulated cohorts whose true mean is known.

    python -m benchmarks.statistics            # 1,000 cohorts of each kind, about ten minutes on two cores
    python -m benchmarks.statistics --quick    # 100, for a look

Coverage: in how many of the cohorts the 95 % interval of the mean has the true mean in it, for the report's own method
(BCa, ``mean_interval``) and for the percentile method that it was chosen over. Dice is drawn from a beta distribution
(mean 0.857, skewed to the left), HD95 from a log-normal one with a long tail, Dice of two images per patient from the
same with a patient's share. False alarms: how often two runs that are alike, on the same patients, are called apart at
5 %, by ``compare_means``. Simulated numbers: they say nothing of any network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy import stats

from benchmarks.machine import cpu_model
from monai_ext.metrics import compare_means, mean_interval
from monai_ext.metrics.statistics import DRAWS

Cohort = tuple[np.ndarray, list[str]]
LOG_SPREAD = 0.8


def dice(rng: np.random.Generator, patients: int) -> Cohort:
    return rng.beta(9, 1.5, size=patients), [str(k) for k in range(patients)]


def two_images(rng: np.random.Generator, patients: int) -> Cohort:
    """Half of what an image's Dice differs by from the mean is its patient's."""
    shared = rng.beta(9, 1.5, size=patients)[:, None]
    values = (shared + rng.beta(9, 1.5, size=(patients, 2))) / 2
    return values.reshape(-1), [str(k) for k in range(patients) for _ in range(2)]


def hd95(rng: np.random.Generator, patients: int) -> Cohort:
    return 5 * rng.lognormal(0, LOG_SPREAD, size=patients), [str(k) for k in range(patients)]


KINDS: dict[str, tuple[Callable[[np.random.Generator, int], Cohort], float]] = {
    "Dice": (dice, 9 / 10.5),
    "Dice, two images a patient": (two_images, 9 / 10.5),
    "HD95, long tail": (hd95, 5 * float(np.exp(LOG_SPREAD**2 / 2))),
}


def percentile(values: np.ndarray, patients: list[str]) -> tuple[float, float]:
    means = np.array([values[np.array(patients) == p].mean() for p in dict.fromkeys(patients)])
    ends = stats.bootstrap(
        (means,), np.mean, method="percentile", n_resamples=DRAWS, random_state=0
    ).confidence_interval
    return float(ends.low), float(ends.high)


def coverage(kind: str, patients: int, cohorts: int) -> list[float]:
    draw, truth = KINDS[kind]
    rng = np.random.default_rng(patients)
    inside = np.zeros(2)
    for _ in range(cohorts):
        cohort = draw(rng, patients)
        for k, interval in enumerate((mean_interval, percentile)):
            low, high = interval(*cohort)
            inside[k] += low <= truth <= high
    return (100 * inside / cohorts).tolist()


def false_alarms(patients: int, cohorts: int) -> float:
    """Two runs that differ by noise of one size: patients differ by much more than runs do."""
    rng = np.random.default_rng(patients)
    called = 0
    for _ in range(cohorts):
        runs = rng.beta(9, 1.5, size=patients) + 0.02 * rng.standard_t(4, size=(2, patients))
        called += compare_means(runs).differences[0].separable
    return 100 * called / cohorts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 cohorts of each kind")
    cohorts = 100 if parser.parse_args().quick else 1000
    print(f"{cpu_model()}; {cohorts} cohorts, {DRAWS} draws; simulated numbers\n")
    print("| 95 % interval holds the true mean, % | patients | BCa (the report's) | percentile |\n|---|---|---|---|")
    for kind in KINDS:
        for patients in (12, 50, 100):
            bca, other = coverage(kind, patients, cohorts)
            print(f"| {kind} | {patients} | {bca:.1f} | {other:.1f} |", flush=True)
    print("\n| alike, yet called apart at 5 %, % | patients |\n|---|---|")
    for patients in (12, 50, 100):
        print(f"| {false_alarms(patients, 4 * cohorts):.1f} | {patients} |", flush=True)


if __name__ == "__main__":
    main()
