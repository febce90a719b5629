# SPDX-License-Identifier: Apache-2.0
"""Intervals and tests against SciPy's own, called in another way, and against what is known of a sample."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from monai_ext.metrics import compare_means, mean_interval
from monai_ext.metrics.statistics import holm


def scores(runs: int, patients: int, seed: int = 0) -> np.ndarray:
    """Dice of a cohort: patients differ by more than runs do."""
    rng = np.random.default_rng(seed)
    hard = rng.beta(9, 1.5, size=patients)
    return np.clip(hard + 0.01 * rng.normal(size=(runs, patients)), 0, 1)


def raised(patients: int) -> float:
    """The level that makes of a normal bootstrap Student's interval."""
    return 2 * stats.norm.cdf(stats.t.ppf(0.975, patients - 1) * np.sqrt(patients / (patients - 1))) - 1


class TestMeanInterval:
    def test_is_scipys(self):
        values = scores(1, 25)[0]
        options = {"method": "BCa", "n_resamples": 9999, "random_state": 1, "confidence_level": raised(25)}
        expected = stats.bootstrap((values,), np.mean, **options)
        low, high = expected.confidence_interval
        # two seeds of 9999 draws
        np.testing.assert_allclose(mean_interval(values), (low, high), atol=0.05 * (high - low))

    def test_patients_are_drawn_whole(self):
        """Twenty slices of each patient, all alike, say no more than one of each."""
        values = scores(1, 12)[0]
        slices, owners = np.repeat(values, 20), np.repeat([f"p{k:02d}" for k in range(12)], 20)
        assert mean_interval(slices, owners.tolist()) == pytest.approx(mean_interval(values), rel=1e-3)
        alone = mean_interval(slices)
        assert np.ptp(alone) < 0.4 * np.ptp(mean_interval(values))

    def test_patients_of_unlike_numbers_weigh_as_their_cases(self):
        rng = np.random.default_rng(3)
        owners = rng.integers(0, 15, size=60)
        values = rng.random(60) + 0.1 * owners
        sums, counts = np.bincount(owners, values), np.bincount(owners)
        expected = stats.bootstrap(
            (sums, counts),
            lambda s, c, axis: s.sum(axis) / c.sum(axis),
            paired=True,
            random_state=1,
            confidence_level=raised(15),
        ).confidence_interval
        found = mean_interval(values, owners.astype(str).tolist())
        np.testing.assert_allclose(found, (expected.low, expected.high), atol=0.05 * np.ptp(found))

    def test_what_is_not_finite_is_left_out_as_of_the_mean(self):
        values = scores(1, 20)[0]
        with_gaps = np.concatenate([values, [np.nan, np.inf]])
        assert mean_interval(with_gaps) == pytest.approx(mean_interval(values))

    def test_mean_of_classes(self):
        values = scores(3, 20).T
        low, high = mean_interval(values)
        assert (low, high) == pytest.approx(mean_interval(values.mean(axis=1)))
        values[:15, 1] = np.nan
        low, high = mean_interval(values)
        assert low < np.nanmean(values, axis=0).mean() < high

    def test_is_students_where_values_are_normal(self):
        values = np.random.default_rng(0).normal(size=15)
        values = np.concatenate([values, -values])  # no skew
        expected = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
        np.testing.assert_allclose(mean_interval(values), expected, atol=0.06)

    def test_too_few_and_all_alike(self):
        assert np.isnan(mean_interval(np.array([0.5]))).all()
        assert np.isnan(mean_interval(np.array([]))).all()
        assert np.isnan(mean_interval(np.array([0.5, 0.7]), ["a", "a"])).all()
        assert np.isnan(mean_interval(np.array([np.nan, 0.7, np.inf]))).all()
        assert mean_interval(np.full(7, 0.25)) == (0.25, 0.25)

    def test_the_same_data_have_the_same_interval(self):
        assert mean_interval(scores(1, 9)[0]) == mean_interval(scores(1, 9)[0])

    def test_wrong_patients(self):
        with pytest.raises(ValueError, match="^monai_ext: patients: 2 for 3 cases"):
            mean_interval(np.ones(3), ["a", "b"])


class TestCompareMeans:
    def test_exact_p_value_is_scipys(self):
        one, other = scores(2, 11)
        expected = stats.permutation_test(
            (one, other), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True
        )
        (found,) = compare_means(np.stack([one, other])).differences
        assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)

    def test_drawn_p_value_is_scipys(self):
        one, other = scores(2, 40)
        options = {"permutation_type": "samples", "vectorized": True, "n_resamples": 9999, "random_state": 5}
        expected = stats.permutation_test((one, other), lambda a, b, axis: np.mean(a - b, axis=axis), **options).pvalue
        (found,) = compare_means(np.stack([one, other])).differences
        assert found.p_value == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 9999) + 2e-4)

    def test_by_hand(self):
        """Of the 8 ways to change signs of (1, 2, 3), two have a mean as far from 0."""
        result = compare_means(np.array([[2.0, 4.0, 6.0], [1.0, 2.0, 3.0]]))
        (found,) = result.differences
        assert (found.one, found.other, found.mean, found.p_value) == (0, 1, 2.0, 0.25)
        assert result.ranking == (0, 1) and result.means == (4.0, 2.0)
        assert found.probability == result.ranking_holds == 1
        assert found.detectable == pytest.approx(stats.t.ppf(0.975, 2) * 1 / np.sqrt(3))

    def test_a_published_gain_is_inseparable(self):
        """0.12 points on 12 cases, the size of gains that papers call the best result."""
        one = scores(1, 12, seed=7)[0]
        noise = np.random.default_rng(8).normal(scale=0.02, size=12)
        other = one + noise - noise.mean() - 0.0012
        (found,) = compare_means(np.stack([one, other])).differences
        assert found.mean == pytest.approx(0.0012)
        assert not found.separable and found.p_value > 0.5
        assert found.interval[0] < 0 < found.interval[1]
        assert found.detectable > 0.01

    def test_a_gain_in_every_patient_is_seen(self):
        one = scores(1, 12)[0]
        gain = np.random.default_rng(9).uniform(0.005, 0.03, size=12)
        (found,) = compare_means(np.stack([one - gain, one])).differences
        assert (found.one, found.other) == (1, 0)
        assert found.separable and found.p_value == pytest.approx(2 / 2**12)
        assert found.interval[0] > 0 and found.probability == 1

    def test_distances_are_better_when_smaller(self):
        values = scores(3, 15)
        high, low = compare_means(values), compare_means(-values, higher_is_better=False)
        assert high.ranking == low.ranking and high.ranking_holds == low.ranking_holds
        for a, b in zip(high.differences, low.differences):
            assert (a.mean, a.p_value, a.probability) == (-b.mean, b.p_value, b.probability)
            assert a.interval == pytest.approx((-b.interval[1], -b.interval[0]))

    def test_patients_count_once(self):
        values = scores(2, 10)
        owners = [f"p{k}" for k in range(10)]
        once = compare_means(values, owners)
        slices = compare_means(np.repeat(values, 30, axis=1), np.repeat(owners, 30).tolist())
        assert slices.patients == 10
        assert slices.differences[0].p_value == once.differences[0].p_value
        assert slices.differences[0].interval == pytest.approx(once.differences[0].interval)

    def test_equal_runs(self):
        row = scores(1, 8)[0]
        result = compare_means(np.stack([row, row]))
        (found,) = result.differences
        assert found.p_value == 1 and found.interval == (0, 0) and found.probability == 0.5

    def test_probability_of_the_ranking(self):
        """Of three runs the first two are nearly alike, the last is far behind."""
        base = scores(1, 30)[0]
        noise = np.random.default_rng(4).normal(scale=0.03, size=30)
        result = compare_means(np.stack([base, base + noise - noise.mean() - 1e-6, base - 0.3]))
        assert result.ranking == (0, 1, 2)
        assert result.ranking_holds == pytest.approx(0.5, abs=0.06)
        assert [d.probability > 0.99 for d in result.differences] == [False, True, True]

    @pytest.mark.parametrize("values", [[[1.0, 2.0]], [1.0, 2.0], [[1.0, np.nan], [1.0, 2.0]]])
    def test_wrong_values(self, values):
        with pytest.raises(ValueError, match="^monai_ext: values of two runs or more"):
            compare_means(np.array(values))

    def test_one_patient(self):
        with pytest.raises(ValueError, match="^monai_ext: 1 patient"):
            compare_means(np.ones((2, 3)), ["a", "a", "a"])


def test_holm():
    """The example of Holm (1979): each of the sorted values times how many are left, never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
