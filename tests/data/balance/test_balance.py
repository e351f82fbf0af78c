import numpy as np
import pytest

from research.data.balance.resample import oversample, undersample
from research.data.balance.smote import smote
from research.errors import UserError

LABELS = np.array(["a"] * 50 + ["b"] * 8 + ["c"] * 21)
RNG = np.random.default_rng(0)


def counts(labels):
    return dict(zip(*(x.tolist() for x in np.unique(labels, return_counts=True)), strict=True))


def test_counts_are_those_of_the_ratio():
    rows = oversample(LABELS, seed=1)
    assert counts(LABELS[rows]) == {"a": 50, "b": 50, "c": 50}
    assert set(rows) == set(range(79)) and (np.diff(rows) >= 0).all()
    for seed in range(2):  # the rows of a class are repeated equally often
        times = np.bincount(oversample(LABELS, seed=seed))
        assert np.ptp(times[50:58]) <= 1 and np.ptp(times[58:]) <= 1
    assert counts(LABELS[oversample(LABELS, ratio=0.5, seed=1)]) == {"a": 50, "b": 25, "c": 25}
    rows = undersample(LABELS, seed=1)
    assert counts(LABELS[rows]) == {"a": 8, "b": 8, "c": 8} and len(set(rows)) == 24
    assert counts(LABELS[undersample(LABELS, ratio=0.5, seed=1)]) == {"a": 16, "b": 8, "c": 16}


def test_rows_depend_on_the_seed_alone():
    for make in (oversample, undersample):
        np.testing.assert_array_equal(make(LABELS, seed=3), make(LABELS, seed=3))
        assert (make(LABELS, seed=3) != make(LABELS, seed=4)).any()


def test_a_synthetic_row_lies_between_a_row_of_its_class_and_a_near_neighbour():
    x = RNG.normal(size=(79, 3))
    found = smote(x, LABELS, k=3, seed=0)
    assert counts(found.labels) == {"a": 50, "b": 50, "c": 50}
    np.testing.assert_array_equal(found.features[:79], x)
    for name in "bc":
        rows = x[LABELS == name]
        distance = np.linalg.norm(rows[:, None] - rows, axis=-1)
        near = np.argsort(distance, 1)[:, 1:4]
        for new in found.features[79:][found.labels[79:] == name]:
            gaps = [
                distance[i, j] - np.linalg.norm(new - rows[i]) - np.linalg.norm(new - rows[j])
                for i in range(len(rows)) for j in near[i]
            ]  # fmt: skip
            assert max(gaps) > -1e-9  # the triangle inequality holds with equality on a segment


def test_codes_stay_codes_and_count_as_the_median_deviation():
    x = np.concatenate([RNG.normal(size=(79, 2)), RNG.integers(3, size=(79, 1))], 1)
    new = smote(x, LABELS, seed=0, categorical=(2,)).features[79:]
    assert set(new[:, 2]) <= {0, 1, 2} and len(set(new[:, 0])) == len(new)
    # Two different codes are about 40 apart here, thus the neighbour of a row is the one of the same code.
    rare = np.array([[0.0, 0], [1, 1], [2, 0], [3, 1], [100, 5]])
    rows = np.concatenate([rare, np.full((40, 2), 50.0)])
    new = smote(rows, np.array([1] * 5 + [0] * 40), k=1, seed=0, categorical=(1,)).features[45:]
    assert (new[new[:, 1] == 0, 0] <= 2).all() and (new[new[:, 1] == 1, 0] >= 1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: oversample(LABELS, ratio=0, seed=0), "ratio=0; expected a number above 0"),
        (lambda: undersample(LABELS[:, None], seed=0), r"shape \[79, 1\]; expected one label per row"),
        (lambda: smote(np.ones((79, 2)), LABELS, k=0, seed=0), "expected at least one neighbour"),
        (lambda: smote(np.full((79, 2), np.nan), LABELS, seed=0), "row 0, column 0 is nan; fill missing values"),
        (lambda: smote(np.ones((3, 2)), np.array([0, 0, 1]), seed=0), "has one row; smote needs a neighbour"),
        (lambda: smote(np.ones(3), np.array([0, 0, 1]), seed=0), r"features \[3\] and labels \[3\]"),
    ],
)
def test_what_cannot_be_balanced_is_an_error(make, message):
    with pytest.raises(UserError, match=message):
        make()
