"""Two-sample tests against closed forms, scipy, and their own null hypothesis."""

import jax
import numpy as np
import pytest
from scipy import stats

from research.metrics.two_sample import category_shift, classifier_test, mmd_test, number_shift, psi
from research.objectives.mmd import squared_mmd


def test_psi_in_closed_form():
    assert psi(np.array([30, 70]), np.array([50, 50])) == pytest.approx(0.2 * np.log(5 / 3) + 0.2 * np.log(7 / 5))
    assert psi(np.array([3, 7, 0]), np.array([30, 70, 0])) == 0
    half = np.array([10.5, 0.5]) / 11, np.array([5.5, 5.5]) / 11
    assert psi(np.array([10, 0]), np.array([5, 5])) == pytest.approx(
        np.sum((half[0] - half[1]) * np.log(half[0] / half[1]))
    )
    # The divergence of normal distributions at a distance of d standard deviations is d^2.
    edges = np.linspace(-8, 8, 2001)
    mass = [1e9 * np.diff(stats.norm.cdf(edges, mean)) for mean in (0, 0.3)]
    assert psi(*mass) == pytest.approx(0.09, rel=1e-3)


def test_psi_without_a_shift_has_the_mean_of_its_chi_squared_limit():
    """PSI / (1/n + 1/m) is chi-squared with bins - 1 degrees of freedom (Yurdakul 2018)."""
    rng = np.random.default_rng(0)
    found = [number_shift(rng.normal(size=1000), rng.normal(size=500)).psi for _ in range(200)]
    assert np.mean(found) == pytest.approx(9 * (1 / 1000 + 1 / 500), rel=0.1)


def test_columns_of_numbers_are_compared_by_scipys_test():
    x, y = np.arange(100.0), np.arange(25.0, 125.0)
    found = number_shift(x, y)
    assert found.test == "KS" and found.statistic == pytest.approx(0.25)
    assert found.p == pytest.approx(stats.ks_2samp(x, y, method="exact").pvalue, rel=0.3)
    gone = np.where(np.arange(100) % 2, np.nan, x)
    missing = number_shift(x, gone)
    table = [[100, 0], [50, 50]]
    expected = 2 * stats.chi2_contingency(table, correction=False).pvalue
    assert missing.p == pytest.approx(expected, rel=1e-6, abs=0)
    assert missing.psi > 1
    assert np.isnan(number_shift(np.full(9, np.nan), np.full(5, np.nan)).p)
    assert number_shift(np.arange(40) % 2, np.arange(50) % 2).test == "chi-squared"


def test_columns_of_codes_are_compared_by_chi_squared():
    a, b, c, d = 30, 20, 10, 40
    x, y = np.repeat([0, 1], [a, b]), np.repeat([0, 1], [c, d])
    by_hand = 100 * (a * d - b * c) ** 2 / (50 * 50 * 40 * 60)
    found = category_shift(x, y)
    assert found.statistic == pytest.approx(by_hand) and found.p == pytest.approx(stats.chi2.sf(by_hand, 1))
    rare = category_shift(np.r_[x, 2, 3, 4], np.r_[y, 5, 6, 7])  # six values of one record each are one
    table = [[a, b, 3], [c, d, 3]]
    assert rare.statistic < stats.chi2_contingency(table, correction=False).statistic + 1e-9
    assert category_shift(np.r_[x, [np.nan] * 9], y).p < found.p
    assert np.isnan(category_shift(np.zeros(9), np.zeros(4)).p)


def test_p_values_without_a_shift_are_no_smaller_than_they_should_be():
    rng = np.random.default_rng(1)
    ps = {
        "KS": [number_shift(rng.normal(size=80), rng.normal(size=40)).p for _ in range(400)],
        "chi2": [category_shift(rng.integers(0, 4, 80), rng.integers(0, 4, 40)).p for _ in range(400)],
        "MMD": [
            mmd_test(rng.normal(size=(20, 2)), rng.normal(size=(15, 2)), permutations=99, seed=i).p for i in range(400)
        ],
    }
    for name, found in ps.items():
        for level in (0.05, 0.2):
            assert np.mean(np.array(found) <= level) < level + 3 * np.sqrt(level * (1 - level) / 400), (name, level)
    assert np.mean(np.array(ps["MMD"]) <= 0.2) > 0.14, "permutations are exact"


def test_mmd_is_that_of_the_objective_and_has_its_expectation():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32) + 1
    ours = mmd_test(x, y, permutations=9, variance=2.0).squared_mmd
    assert ours == pytest.approx(float(squared_mmd(x, y, variances=[2.0], unbiased=True)), abs=1e-5)
    # E k(a, b) of normal a, b in d dimensions with variance v is (v / (v + 2))^(d/2) exp(-|shift|^2 / (2 (v + 2))).
    d, v, shift = 3, 2.0, 0.8
    found = [
        mmd_test(rng.normal(size=(60, d)), rng.normal(size=(50, d)) + shift, permutations=1, variance=v).squared_mmd
        for _ in range(200)
    ]
    expected = 2 * (v / (v + 2)) ** (d / 2) * (1 - np.exp(-d * shift**2 / (2 * (v + 2))))
    assert np.mean(found) == pytest.approx(expected, rel=0.05)
    assert mmd_test(x, x + 3, permutations=999).p == 0.001
    assert mmd_test(np.ones((9, 2)), np.ones((7, 2)), permutations=99).p == 1


def test_a_classifier_has_the_area_of_two_normal_distributions():
    """The best area for normal distributions at a distance of d is Phi(d / sqrt 2)."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 1)), rng.normal(size=(1000, 1)) + 1
    found = classifier_test(x, y)
    best = stats.norm.cdf(1 / np.sqrt(2))
    assert best - 0.03 < found.area < best + 0.02 and found.low < found.area < found.high and found.p < 1e-50
    # DeLong's error of an area of 0.75 from 3000 and 1000 rows (Hanley & McNeil 1982, eq. 1).
    a, n, m = found.area, 3000, 1000
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    error = np.sqrt((a * (1 - a) + (m - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / (n * m))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error * np.sqrt(2.25), rel=0.15)
    correlated = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 500)
    assert classifier_test(correlated, rng.normal(size=(500, 2))).area > 0.7, "each column alone is the same"
    few = classifier_test(x[:9], y)
    assert np.isnan(few.area) and np.isnan(few.p)
    assert classifier_test(np.ones((20, 1)), np.ones((20, 1))).p == 1


@pytest.mark.slow
def test_a_classifier_separates_no_equal_samples():
    rng = np.random.default_rng(0)
    found = [classifier_test(rng.normal(size=(150, 4)), rng.normal(size=(60, 4))) for _ in range(200)]
    ps = np.array([test.p for test in found])
    assert 0.005 < (ps < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200) and ps.min() > 0.0005
    assert np.mean([test.low <= 0.5 <= test.high for test in found]) > 0.9


def test_jax_is_not_needed_for_numbers():
    assert isinstance(number_shift(jax.numpy.arange(30.0), np.arange(30.0)).p, float)
