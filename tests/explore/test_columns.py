"""Summaries of columns, against pandas and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from research.data import Column, table
from research.explore.columns import coded, described, groups_of, missing_map, summary
from tests.explore.tables import N, people


def summaries(data):
    codes = coded(data)
    groups = groups_of(data, codes)
    return {name: summary(data, name, codes, groups) for name in data.schema}, groups


def test_numbers_are_those_of_pandas():
    data = table(people(), target="income")
    found, _ = summaries(data)
    for name in ("age", "height", "fare"):
        one, frame = found[name], pd.Series(people()[name], dtype=float).replace(np.inf, np.nan)
        expected = frame.describe()
        numbers = one.numbers
        ours = [numbers.mean, numbers.deviation, numbers.low, numbers.lower_quartile, numbers.median,
                numbers.upper_quartile, numbers.high]  # fmt: skip
        np.testing.assert_allclose(ours, expected.iloc[1:].to_numpy())
        assert numbers.skewness == pytest.approx(stats.skew(frame.dropna()))
        low, high = frame.quantile(0.25), frame.quantile(0.75)
        outside = (frame < low - 1.5 * (high - low)) | (frame > high + 1.5 * (high - low))
        assert numbers.outliers == outside.sum() and one.distinct == frame.nunique()
        assert one.missing + one.infinite == frame.isna().sum()
    assert (found["fare"].infinite, found["fare"].missing) == (1, 0)
    assert found["same"].constant and not found["age"].constant
    assert found["nothing"].numbers is None and found["nothing"].missing == N


def test_a_histogram_has_every_value_once_and_by_class():
    data = table(people(), target="income")
    found, groups = summaries(data)
    assert groups.names == ("high", "low")
    for name, one in found.items():
        if one.distribution is not None:
            inside = one.distribution.counts.sum() + one.distribution.beyond
            assert inside == one.rows - one.missing - one.infinite, name
    income = np.array(people()["income"])
    for column in ("age", "height"):
        x, (edges, counts, _) = np.array(people()[column], float), found[column].distribution
        for row, name in zip(counts, groups.names, strict=True):
            assert row.tolist() == np.histogram(x[(income == name) & ~np.isnan(x)], edges)[0].tolist()
    city = pd.crosstab(pd.Series(people()["city"]), income)
    values = found["city"].distribution.values
    assert found["city"].distribution.counts.T.tolist() == city.loc[list(values)].to_numpy().tolist()


def test_a_far_value_does_not_squeeze_the_histogram():
    data = table({"x": [*np.linspace(0, 1, 999).tolist(), 1e9]})
    one = summaries(data)[0]["x"]
    assert one.distribution.edges[-1] < 2 and one.distribution.beyond > 0 and one.numbers.far == 1


def test_a_value_at_the_limit_is_no_outlier():
    one = summaries(table({"x": [0, 1, 1, 2, 2, 3, 3, 6, 7]}))[0]["x"]  # the limits are -2 and 6
    assert (one.numbers.outliers, one.numbers.far) == (1, 0)


def test_a_small_range_of_integers_has_a_bin_for_each():
    one = summaries(table({"x": [3, 3, 4, 6, 6, 6], "y": list("abcdef")}))[0]["x"]
    assert one.distribution.edges.tolist() == [2.5, 3.5, 4.5, 5.5, 6.5]
    assert one.distribution.counts.tolist() == [[2, 1, 0, 3]]


def test_groups_are_classes_thirds_or_all_rows():
    y = np.arange(90.0) / 7
    thirds = groups_of(data := table({"y": y, "x": y}, target="y"), coded(data))
    assert np.bincount(thirds.of_row).tolist() == [30, 30, 30] and len(thirds.names) == 3
    constant = table({"y": [1.5] * 9, "x": range(9)}, target="y")
    assert groups_of(constant, coded(constant)).names == ("y",)
    many = table({"y": [f"c{i % 9}" for i in range(90)] + ["c0"] * 9, "x": range(99)}, target="y")
    groups = groups_of(many, coded(many))
    assert len(groups.names) == 6 and groups.names[-1] == "other" and groups.names[0] == "c0"
    absent = table({"y": ["a", None, "b"] * 4, "x": range(12)}, target="y")
    assert groups_of(absent, coded(absent)).of_row.tolist() == [0, -1, 1] * 4
    assert groups_of(data := table({"x": [1, 2, 3]}), coded(data)).names == ("all rows",)


def test_the_map_of_missing_values_covers_all_rows():
    columns = {"a": [None] * 5 + [1] * 5, "b": [None, "x"] * 5}
    assert missing_map(table(columns), ["a", "b"], blocks=2).tolist() == [[1, 0], [0.6, 0.4]]
    assert missing_map(table(columns), ["a"], blocks=100).shape == (1, 10)


def test_a_column_is_described_in_its_own_unit():
    data = table(people(), schema={"zip": Column("category", buckets=8)})
    found, _ = summaries(data)
    assert described(found["joined"]) == "2010-01-10 to 2021-09-18"
    assert described(found["age"]) == "18 to 79" and described(found["nothing"]) == "no value"
    assert found["zip"].distinct == 70
