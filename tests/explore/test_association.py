"""Associations, against pandas, scipy and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.feature_selection import f_classif

from research.explore.association import correlation_ratio, cramers_v, pearson, spearman

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4)) @ RNG.normal(size=(4, 4)) + 1e6
X[:, 3] = np.round(X[:, 3])  # ties


@pytest.mark.parametrize("absent", (0.0, 0.3))
def test_pairs_of_numbers_are_those_of_pandas(absent):
    x = np.where(RNG.random(X.shape) < absent, np.nan, X)
    for ours, method in ((pearson, "pearson"), (spearman, "spearman")):
        np.testing.assert_allclose(ours(x), pd.DataFrame(x).corr(method), atol=1e-9)


def test_infinite_numbers_are_missing_and_a_constant_has_no_correlation():
    x = X.copy()
    x[3, 0] = np.inf
    known = np.arange(80) != 3
    assert pearson(x)[0, 1] == pytest.approx(np.corrcoef(X[known].T)[0, 1])
    constant = np.stack([np.full(80, 0.1), X[:, 0], np.full(80, np.nan)], 1)
    for found in (pearson(constant), spearman(constant)):
        assert np.isnan(found[0]).all() and np.isnan(found[2]).all() and found[1, 1] == pytest.approx(1)
    assert pearson(np.array([[1e308, 1.0], [-1e308, 2.0]])).shape == (2, 2)


def test_v_of_two_by_two_is_phi_and_a_function_has_one():
    a, b = np.repeat([0.0, 0, 1, 1], [30, 10, 15, 25]), np.repeat([0.0, 1, 0, 1], [30, 10, 15, 25])
    phi = np.corrcoef(a, b)[0, 1]
    assert cramers_v(a, b) == pytest.approx(abs(phi))
    codes = RNG.integers(0, 6, 300).astype(float)
    assert cramers_v(codes, codes % 3) == pytest.approx(1)
    chi2 = stats.chi2_contingency(pd.crosstab(codes, codes[::-1]), correction=False).statistic
    assert cramers_v(codes, codes[::-1].copy()) == pytest.approx((chi2 / 300 / 5) ** 0.5)
    absent = np.where(np.arange(300) < 100, np.nan, codes)
    assert cramers_v(absent, codes[::-1].copy()) == pytest.approx(cramers_v(codes[100:], codes[::-1][100:].copy()))
    assert np.isnan(cramers_v(codes, np.zeros(300))) and np.isnan(cramers_v(codes, np.full(300, np.nan)))


def test_the_correlation_ratio_follows_from_the_f_statistic():
    codes = RNG.integers(0, 4, 200).astype(float)
    x = RNG.normal(size=200) + codes**2
    f, _ = f_classif(x[:, None], codes)
    assert correlation_ratio(codes, x) ** 2 == pytest.approx(f[0] * 3 / (f[0] * 3 + 196))
    assert correlation_ratio(codes, codes) == pytest.approx(1)
    assert np.isnan(correlation_ratio(codes, np.ones(200))) and np.isnan(correlation_ratio(np.zeros(200), x))
    assert np.isnan(correlation_ratio(codes, np.full(200, np.nan)))
