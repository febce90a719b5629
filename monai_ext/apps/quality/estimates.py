# SPDX-License-Identifier: Apache-2.0
"""From what was measured of a label to the Dice that it is expected to have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression, nnls

__all__ = ["COVERAGE", "FEWEST", "ExpectedDice"]

FEWEST = 5  # held-out cases
COVERAGE = 0.9
CERTAIN = 0.03  # Dice; an interval is not narrower than this to either side, however well few cases agree


class ExpectedDice:
    """A rising function from signals of trust to Dice, and how far it was off for cases that it had not seen.

    A sum of the signals, none of which counts against trust (non-negative least squares), becomes a Dice by isotonic
    regression. Both are made once more without each case; the errors for the case that was left out, in units that
    grow with the distance from 1, give the interval (conformal prediction, jackknife).

    Args:
        signals: ``(n, k)``, larger is better.
        dice: ``(n,)``.
        cases: ``(n,)``, which case each row is of: one may have several, whose damages are its own.
        sound: ``(n,)``, whether the row is of the case as it is. Only these make the interval's width for a label
            that is expected to be as good as theirs.

    Raises:
        ValueError: if there are fewer than ``FEWEST`` cases.

    Examples::

        >>> x = np.linspace(0, 1, 20)
        >>> told = ExpectedDice(x[:, None], x, np.arange(20), np.ones(20, bool))
        >>> round(told(np.array([0.5]))[0], 1)
        0.5
    """

    def __init__(self, signals: np.ndarray, dice: np.ndarray, cases: np.ndarray, sound: np.ndarray) -> None:
        different = np.unique(cases)
        if len(different) < FEWEST:
            raise ValueError(f"monai_ext: {len(different)} held-out cases, expected at least {FEWEST} to calibrate on.")
        self._all = _Curve(signals, dice)
        told = np.empty(len(dice))
        for case in different:
            own = cases == case
            told[own] = _Curve(signals[~own], dice[~own])(signals[own])
        self.errors = np.abs(told - dice)
        width = self.errors / _unit(told)
        self.width = {True: _quantile(width[sound]), False: _quantile(width)}
        self.usual = float(np.quantile(dice[sound], 0.05))  # of labels of sound cases, all but the worst are above

    def __call__(self, signals: np.ndarray) -> tuple[float, float, float]:
        """Expected Dice and its interval, for one row of signals."""
        expected = float(self._all(signals[None])[0])
        reach = max(CERTAIN, self.width[expected >= self.usual] * float(_unit(np.array([expected]))[0]))
        return expected, max(0.0, expected - reach), min(1.0, expected + reach)


def _unit(expected: np.ndarray) -> np.ndarray:
    """What an error is measured in: labels near 1 can hardly be better, those in the middle may be anything."""
    return 0.05 + np.minimum(expected, 1 - expected).clip(min=0)


def _quantile(errors: np.ndarray) -> float:
    """So that one more error is below with the chance of ``COVERAGE``; of few, the largest."""
    rank = int(np.ceil((len(errors) + 1) * COVERAGE))
    return float(np.sort(errors)[min(rank, len(errors)) - 1])


class _Curve:
    def __init__(self, signals: np.ndarray, dice: np.ndarray) -> None:
        self.low = signals.min(axis=0)
        self.span = np.maximum(np.ptp(signals, axis=0), 1e-6)
        ones = np.ones((len(signals), 1))
        # a constant of either sign
        self.weights = nnls(np.hstack([self._scaled(signals), ones, -ones]), dice)[0]
        sums = self._sum(signals)
        order = np.argsort(sums, kind="stable")
        x, first = np.unique(sums[order], return_index=True)
        means = np.add.reduceat(dice[order], first) / np.diff([*first, len(order)])
        self.x = x
        self.y = isotonic_regression(means, weights=np.diff([*first, len(order)])).x

    def _scaled(self, signals: np.ndarray) -> np.ndarray:
        return ((signals - self.low) / self.span).clip(0, 1)

    def _sum(self, signals: np.ndarray) -> np.ndarray:
        scaled = self._scaled(signals)
        return scaled @ self.weights[: scaled.shape[1]] + self.weights[-2] - self.weights[-1]

    def __call__(self, signals: np.ndarray) -> np.ndarray:
        # half of the line, half of the steps: steps alone cannot tell two labels of one step apart
        sums = self._sum(signals)
        return (0.5 * np.interp(sums, self.x, self.y) + 0.5 * sums).clip(0, 1)


def mean_where_known(values: np.ndarray | Sequence[float]) -> float:
    """The mean of those that are numbers; 0 if none is."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else 0.0
