"""Smoothing equals pandas and SciPy, series by series, on rows in any order, on the host and jitted."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.signal import savgol_filter

from research.data import fit, table
from research.data.features import dates, encode, smooth
from research.errors import UserError

RNG = np.random.default_rng(0)
COUNT = 60
DAY = RNG.permutation(COUNT).astype(float)  # the rows are in no order of time
SHOP = np.array(["a", "b", None], object)[RNG.choice(3, COUNT, p=[0.5, 0.4, 0.1])]
X = np.cumsum(RNG.normal(size=COUNT))
GAPS = np.where(RNG.random(COUNT) < 0.3, np.nan, X)
GAPS[[np.flatnonzero(SHOP == "b")[DAY[SHOP == "b"].argmin()]]] = np.nan  # a series starts with a missing value


def smoothed(step, x):
    """Return the column x after the step, after checking the jitted function."""
    data = table({"x": x, "day": DAY, "shop": SHOP})
    prepare = fit(data, step, encode.ordinal())
    found = prepare.apply(prepare.coded(data.columns))["features"][:, 0]
    coded = {name: values.astype(np.float32) for name, values in prepare.coded(data.columns).items()}
    np.testing.assert_allclose(jax.jit(prepare.apply)(coded)["features"][:, 0], found, 1e-4, 1e-4)
    return found


def theirs(function, x):
    """Apply a function of a pandas series to each shop, in the order of days; a missing shop is one more."""
    frame = pd.DataFrame({"x": x, "day": DAY, "shop": pd.Series(SHOP).fillna("none")}).sort_values("day")
    return frame.groupby("shop")["x"].transform(function).sort_index().to_numpy()


@pytest.mark.parametrize("x", [X, GAPS], ids=["complete", "gaps"])
@pytest.mark.parametrize("name", ["average", "exponential"])
def test_like_pandas(name, x):
    step, function = {
        "average": (smooth.moving_average(4, columns="x", group="shop", time="day"),
                    lambda s: s.rolling(4, min_periods=1).mean()),
        "exponential": (smooth.exponential(0.3, columns="x", group="shop", time="day"),
                        lambda s: s.ewm(alpha=0.3, adjust=False, ignore_na=True).mean()),
    }[name]  # fmt: skip
    np.testing.assert_allclose(smoothed(step, x), theirs(function, x), 1e-5, 1e-5)


def test_savitzky_golay_is_scipys():
    step = smooth.savitzky_golay(15, 3, columns="x", group="shop", time="day")
    function = lambda s: savgol_filter(s, 15, 3) if len(s) >= 15 else s
    assert (SHOP == None).sum() < 15  # noqa: E711  (a series that is shorter than the window)
    np.testing.assert_allclose(smoothed(step, X), theirs(function, X), 1e-4, 1e-4)


def test_without_columns_of_group_and_time_the_rows_are_one_series():
    whole = table({"x": X})
    found = fit(whole, smooth.savitzky_golay(5))(whole).columns["features"][:, 0]
    np.testing.assert_allclose(found, savgol_filter(X, 5, 2), 1e-4, 1e-4)
    one = table({"x": [3.0]})
    for step in (smooth.savitzky_golay(5), smooth.moving_average(3), smooth.exponential(0.2)):
        assert fit(whole, step)(one).columns["features"].tolist() == [[3]]  # a single new row stays as it is


def test_dates_with_times_are_an_order():
    times = np.datetime64("2024-01-01T00:00", "us") + DAY.astype(int) * np.timedelta64(5, "h")
    data = table({"x": X, "at": times})
    prepare = fit(data, smooth.exponential(0.5, time="at"), dates.parts())
    expected = pd.Series(X[np.argsort(DAY)]).ewm(alpha=0.5, adjust=False).mean().to_numpy()[DAY.astype(int)]
    np.testing.assert_allclose(prepare(data).columns["features"][:, 0], expected, 1e-5)


@pytest.mark.parametrize("step, words", [
    (smooth.moving_average(0), "window=0.*at least 1"),
    (smooth.exponential(1.5), "alpha=1.5.*0 to 1"),
    (smooth.savitzky_golay(4), "window=4, degree=2.*odd window"),
    (smooth.savitzky_golay(3, 3), "window=3, degree=3"),
    (smooth.savitzky_golay(3, columns="gaps"), r"smooth.savitzky_golay\(\) needs complete columns.*gaps"),
    (smooth.exponential(0.5, group="x"), "'x' is of kind number.*expected category"),
    (smooth.exponential(0.5, time="dya"), "unknown column 'dya'.*day"),
])  # fmt: skip
def test_errors(step, words):
    with pytest.raises(UserError, match=words):
        fit(table({"x": X, "gaps": GAPS, "day": DAY, "shop": SHOP}), step, encode.ordinal())
