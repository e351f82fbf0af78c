"""Multiple imputation: the draws are scikit-learn's, and pooled intervals cover the truth as often as they say."""

import numpy as np
import pytest
from scipy import stats
from sklearn.impute import IterativeImputer

from research.data import fit, subset, table
from research.data.clean import chained
from research.data.clean.pooling import pooled
from research.data.preparation import load_preparation
from research.errors import UserError
from tests.data.test_steps import HOLES, NAMES, TEST, TRAIN, made


@pytest.mark.parametrize("seed", [0, 3])
def test_training_rows_get_the_draws_and_new_rows_the_means(seed):
    theirs = IterativeImputer(max_iter=3, sample_posterior=True, random_state=seed)
    drawn = theirs.fit_transform(HOLES[TRAIN])
    found, _ = made(chained.chained(3, draw=seed), data=HOLES, training=True)
    np.testing.assert_allclose(found, drawn, 1e-5, 1e-5)
    theirs.sample_posterior = False
    found, _ = made(chained.chained(3, draw=seed), data=HOLES)
    np.testing.assert_allclose(found, theirs.transform(HOLES[TEST]), 1e-4, 1e-4)


def test_the_draws_are_saved_and_belong_to_their_rows(tmp_path):
    whole = table(dict(zip(NAMES, HOLES.T, strict=True)))
    train, test = (subset(whole, np.flatnonzero(rows)) for rows in (TRAIN, TEST))
    prepare = fit(train, chained.chained(2, draw=1))
    prepare.save(tmp_path)
    loaded = load_preparation(tmp_path)
    for rows, training in ((train, True), (test, False)):
        want = prepare(rows, training=training).columns["features"]
        np.testing.assert_array_equal(loaded(rows, training=training).columns["features"], want)
    with pytest.raises(UserError, match="call prepare.train, training=True"):
        prepare(train)
    other = subset(whole, np.roll(np.flatnonzero(TRAIN), 1)[: TRAIN.sum()] * 0)
    with pytest.raises(UserError, match="values are missing; expected the"):
        prepare(other, training=True)


def test_pooled_intervals_cover_the_truth():
    rng, draws, worlds = np.random.default_rng(0), 5, 40_000
    within, between = 1.0, 0.5
    center = rng.normal(size=worlds) * np.sqrt(within + between)  # the truth is 0
    estimates = center + rng.normal(size=(draws, worlds)) * np.sqrt(between)
    found = pooled(estimates, np.full((draws, worlds), within), level=0.9)
    covered = np.mean((found.low < 0) & (found.high > 0))
    assert abs(covered - 0.9) < 0.01
    narrow = stats.norm.ppf(0.95) * np.sqrt(within)  # of one imputation, taken for data
    assert np.mean(np.abs(estimates[0]) < narrow) < 0.8
    assert abs(found.missing.mean() - 1 / 3) < 0.05


def test_pooled_limits():
    same = pooled(np.full((3, 2), 4.0), np.full((3, 2), 2.25), complete=20)
    np.testing.assert_allclose(same.degrees, 21 / 23 * 20)  # Barnard & Rubin 1999
    half = stats.t.ppf(0.975, 21 / 23 * 20) * 1.5
    np.testing.assert_allclose([same.low[0], same.high[0]], [4 - half, 4 + half])
    large, small = (pooled(np.array([1.0, 2, 4]), np.ones(3), complete=n) for n in (np.inf, 10))
    np.testing.assert_allclose(large.degrees, 2 * (1 + 1 / (4 / 3 * np.var([1, 2, 4], ddof=1))) ** 2)  # Rubin 1987
    assert small.degrees < min(10, large.degrees) and small.estimate == large.estimate


@pytest.mark.parametrize("make, words", [
    (lambda: pooled(np.ones(1), np.ones(1)), r"estimates \[1\].*at least 2 draws"),
    (lambda: pooled(np.ones(3), np.ones(2)), r"\[3\] and variances \[2\]"),
    (lambda: pooled(np.ones(3), np.array([1, 0.0, 1])), "a variance is 0.0"),
    (lambda: pooled(np.ones(3), np.ones(3), level=2), "level=2"),
])  # fmt: skip
def test_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()
