# SPDX-License-Identifier: Apache-2.0
"""What can be said of a mean over patients, and of the difference between two: SciPy's bootstrap and permutations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS", "FEW", "LEVEL", "Comparison", "Difference", "compare_means", "holm", "mean_interval"]

LEVEL = 0.95
DRAWS = 9999
FEW = 10  # patients, below which an interval means little
BATCH = 1 << 22  # numbers drawn at once
SEED = 0  # the same data have the same intervals


def mean_interval(
    values: NDArray[np.float64], patients: Sequence[str] | None = None, draws: int = DRAWS
) -> tuple[float, float]:
    """The 95 % confidence interval of a mean over patients, by ``scipy.stats.bootstrap`` (BCa).

    The bootstrap's level is raised for small numbers, as Hesterberg [1]_ does: for 12 patients to 97.8 %, for 50 to
    95.8 %, so that the interval holds the mean in 95 %.

    Patients are drawn whole: two images of one heart, or all slices of a scan, come and go together, since they are
    not independent.

    Args:
        values: ``(cases,)``, or ``(cases, classes)`` for the mean of the classes' means. What is not finite is left
            out, as it is of the mean.
        patients: whose each case is; by default each its own.
        draws: how many times patients are drawn.

    Returns:
        Its ends; both ``nan`` where fewer than two patients have a value.

    Examples::

        >>> low, high = mean_interval(np.array([0.91, 0.85, 0.88, 0.79, 0.93, 0.9, 0.87, 0.84, 0.9, 0.92]))
        >>> f"{low:.3f} to {high:.3f}"
        '0.842 to 0.904'

    .. [1] Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), 371-386.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    finite = np.isfinite(table)
    owners = _owners(len(table), patients)
    sums, counts = np.zeros((2, table.shape[1], owners.max(initial=-1) + 1))
    for number, column in enumerate(table.T):
        np.add.at(sums[number], owners[finite[:, number]], column[finite[:, number]])
        np.add.at(counts[number], owners[finite[:, number]], 1)
    seen = counts.any(axis=0) if counts.size else np.zeros(0, dtype=bool)
    sums, counts = sums[:, seen], counts[:, seen]
    if sums.shape[1] < 2:
        return float("nan"), float("nan")

    def mean(drawn: NDArray[np.intp], axis: int = -1) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a class that none of the drawn has
            return np.nanmean(sums[:, drawn].sum(axis=-1) / counts[:, drawn].sum(axis=-1), axis=0)

    return _bootstrap(mean, sums.shape[1], draws, table.shape[1])[0]


def _owners(cases: int, patients: Sequence[str] | None) -> NDArray[np.intp]:
    if patients is None:
        return np.arange(cases)
    if len(patients) != cases:
        raise ValueError(f"monai_ext: patients: {len(patients)} for {cases} cases, expected one for each.")
    return np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1].reshape(-1)


def _bootstrap(
    statistic: Callable[..., NDArray[np.float64]], patients: int, draws: int, width: int
) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Ends of the interval, and the statistic of each draw; ``statistic`` takes numbers of patients."""
    from scipy import stats  # it takes half a second to import

    options = {
        "n_resamples": draws,
        "batch": max(1, BATCH // (patients * width)),
        "vectorized": True,
        # a bootstrap's intervals are too narrow by n against n - 1 and by the normal against Student's distribution
        "confidence_level": min(2 * stats.norm.cdf(_width(patients)) - 1, 1 - 2 / draws),
        "axis": -1,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where all patients are alike, which the second answer is for
        drawn = stats.bootstrap(
            (np.arange(patients),), statistic, method="BCa", random_state=np.random.default_rng(SEED), **options
        )
        ends = drawn.confidence_interval
        if not np.isfinite([ends.low, ends.high]).all():
            options["n_resamples"] = 0
            ends = stats.bootstrap(
                (np.arange(patients),), statistic, method="percentile", bootstrap_result=drawn, **options
            ).confidence_interval
    return (float(ends.low), float(ends.high)), drawn.bootstrap_distribution


def _width(patients: int) -> float:
    """Of a 95 % interval, in standard errors of the bootstrap."""
    from scipy import stats

    return float(stats.t.ppf((1 + LEVEL) / 2, patients - 1) * np.sqrt(patients / (patients - 1)))


@dataclass(frozen=True)
class Difference:
    """Of the means of two runs on the same patients.

    Attributes:
        one: number of the run that is better in this sample.
        other: number of the other.
        mean: of ``one`` less ``other``, over patients.
        interval: its 95 % confidence interval (BCa).
        p_value: of the paired permutation test, two-sided.
        p_corrected: the same after Holm's correction for all pairs.
        probability: share of the draws of patients in which ``one`` stays the better.
        detectable: the difference under which, at this spread, the test cannot tell two runs apart.
    """

    one: int
    other: int
    mean: float
    interval: tuple[float, float]
    p_value: float
    p_corrected: float
    probability: float
    detectable: float

    @property
    def separable(self) -> bool:
        return self.p_corrected < 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """Of runs on the same patients.

    Attributes:
        patients: how many.
        means: of each run, over patients.
        intervals: of these, 95 %.
        ranking: numbers of the runs, best first.
        ranking_holds: share of the draws of patients in which the ranking is the same.
        differences: of each pair of runs.
    """

    patients: int
    means: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    ranking: tuple[int, ...]
    ranking_holds: float
    differences: tuple[Difference, ...]

    @property
    def smallest_p(self) -> float:
        """What the test gives at least: few patients have few permutations, many are drawn."""
        return max(2 / 2**self.patients, 2 / (DRAWS + 1))

    @property
    def has_power(self) -> bool:
        """Whether any pair could be told apart, however far it is, after Holm's correction for all of them."""
        return len(self.differences) * self.smallest_p < 1 - LEVEL


def compare_means(
    values: NDArray[np.float64],
    patients: Sequence[str] | None = None,
    higher_is_better: bool = True,
    draws: int = DRAWS,
) -> Comparison:
    """Which of several runs on the same cases are apart by more than chance.

    Each patient counts once, with the mean of its cases. Differences are tested by ``scipy.stats.permutation_test``
    (``permutation_type="samples"``: were the runs alike, either could have had either score of a patient), exactly
    where there are no more than ``draws`` permutations, that is with up to 13 patients. Their intervals, and how often
    the ranking stays, come from ``scipy.stats.bootstrap``.

    Args:
        values: ``(runs, cases)``, finite.
        patients: whose each case is; by default each its own.
        higher_is_better: false for distances.
        draws: of the bootstrap, and the most permutations.

    Raises:
        ValueError: for fewer than two runs or patients, or values that are not finite.

    Examples::

        >>> scores = np.array([[0.91, 0.85, 0.88, 0.79, 0.93, 0.9, 0.87, 0.84],
        ...                    [0.89, 0.84, 0.85, 0.78, 0.91, 0.9, 0.86, 0.81]])
        >>> result = compare_means(scores)
        >>> result.ranking, round(result.differences[0].p_value, 4)
        ((0, 1), 0.0156)
    """
    from scipy import stats

    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise ValueError("monai_ext: values of two runs or more are needed, (runs, cases), all of them finite.")
    owners = _owners(table.shape[1], patients)
    counts = np.bincount(owners)
    table = np.stack([np.bincount(owners, row) / counts for row in table])
    number = table.shape[1]
    if number < 2:
        raise ValueError(f"monai_ext: {number} patient: with one there is nothing to test.")
    signed = table if higher_is_better else -table
    means = signed.mean(axis=1)
    ranking = np.argsort(-means, kind="stable")
    pairs = [(int(a), int(b)) for a, b in combinations(ranking, 2)]
    tests = [_permuted(signed[a] - signed[b], draws) for a, b in pairs]
    differences = []
    for (a, b), p_value, corrected in zip(pairs, tests, holm(tests)):
        apart = signed[a] - signed[b]
        interval, drawn = _bootstrap(lambda i, axis=-1, d=apart: d[i].mean(axis=-1), number, draws, 1)
        strict = stats.t.ppf(1 - (1 - LEVEL) / 2 / len(pairs), number - 1)
        low, high = interval if higher_is_better else (-interval[1], -interval[0])
        differences.append(
            Difference(
                one=a,
                other=b,
                mean=float((table[a] - table[b]).mean()),
                interval=(low, high),
                p_value=p_value,
                p_corrected=corrected,
                probability=float((drawn > 0).mean() + (drawn == 0).mean() / 2),
                detectable=float(strict * apart.std(ddof=1) / np.sqrt(number)),
            )
        )
    return Comparison(
        patients=number,
        means=tuple(table.mean(axis=1).tolist()),
        intervals=tuple(mean_interval(row, draws=draws) for row in table),
        ranking=tuple(int(k) for k in ranking),
        ranking_holds=_ranking_holds(signed[ranking], draws),
        differences=tuple(differences),
    )


def _ranking_holds(ranked: NDArray[np.float64], draws: int) -> float:
    def in_order(drawn: NDArray[np.intp], axis: int = -1) -> NDArray[np.float64]:
        means = ranked[:, drawn].mean(axis=-1)
        return (means[:-1] >= means[1:]).all(axis=0).astype(float)

    return float(_bootstrap(in_order, ranked.shape[1], draws, len(ranked))[1].mean())


def _permuted(apart: NDArray[np.float64], draws: int) -> float:
    """p-value of the mean of paired differences: were there none, each could have had the other sign."""
    from scipy import stats

    if not apart.any():
        return 1.0
    options = {"permutation_type": "samples", "vectorized": True, "n_resamples": draws, "alternative": "two-sided"}
    batch = max(1, BATCH // len(apart))
    generator = np.random.default_rng(SEED)
    found = stats.permutation_test(
        (apart,), lambda x, axis: x.mean(axis=axis), random_state=generator, batch=batch, **options
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values after Holm's step-down correction for their number, in the same order."""
    number = len(p_values)
    corrected = [0.0] * number
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (number - rank) * p_values[index]))
        corrected[int(index)] = largest
    return corrected
