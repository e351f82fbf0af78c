"""Copies of rows and of texts: planted ones are found, and coincidences are counted as such."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from research.diagnose.duplicates import near_rows, near_texts, repeated_rows


def test_equal_rows_are_found_by_their_normalised_content():
    reference = {
        "city": np.array(["Rome", "Oslo", "new  york", ""], object), "x": np.array([0.1, 2.0, np.nan, -0.0]),
        "day": np.array(["2020-01-01", "NaT", "2020-01-03", "2020-01-04"], "datetime64[us]"),
    }  # fmt: skip
    rows = {
        "city": np.array(["New York", "", "Oslo", "rome "], object), "x": np.array([np.nan, 0.0, 2.0, 0.1 + 1e-10]),
        "day": np.array(["2020-01-03", "2020-01-04", "NaT", "2020-01-02"], "datetime64[us]"),
    }  # fmt: skip
    found = repeated_rows(reference, rows)
    assert found.rows.tolist() == [0, 1, 2] and found.originals.tolist() == [2, 3, 1] and found.pairs == 3
    integers = repeated_rows({"x": np.array([3, 2**24 + 1])}, {"x": np.array([2.0**24, 3.0])})
    assert integers.rows.tolist() == [1] and integers.originals.tolist() == [0]
    within = repeated_rows({"x": np.array([5, 7, 5, 5])})
    assert within.rows.tolist() == [2, 3] and within.originals.tolist() == [0, 0] and within.pairs == 3
    images = np.arange(48).reshape(3, 4, 4)
    assert repeated_rows({"image": images}, {"image": images[1:] + [[[0]], [[1]]]}).originals.tolist() == [1]
    assert not len(repeated_rows({"image": load_digits().images}).rows), "small integers do not collide"


@pytest.mark.parametrize("values", [(2,) * 10, (2, 3, 4, 5, 6), (1, 30, 30)])
def test_coincidences_of_independent_columns_are_explained(values):
    """Rows of independent columns with v equal values agree with probability 1 / prod(v)."""
    rng = np.random.default_rng(0)
    sides = [{str(i): rng.integers(0, v, n) for i, v in enumerate(values)} for n in (1600, 400)]
    found = repeated_rows(*sides)
    assert found.pairs == pytest.approx(1600 * 400 / np.prod(values), rel=0.15)
    assert found.by_chance == pytest.approx(found.pairs, rel=0.2)
    within = repeated_rows(sides[0])
    assert within.by_chance == pytest.approx(within.pairs, rel=0.2)


def test_planted_copies_are_not_explained():
    rng = np.random.default_rng(0)
    table = {"a": rng.normal(size=500).round(1), "b": rng.normal(size=500).round(1), "c": rng.integers(0, 3, 500)}
    table |= {"d": rng.normal(size=500), "same": table["c"] * 2}
    planted = {name: np.r_[values[:30], rng.permutation(values)[:100]] for name, values in table.items()}
    found = repeated_rows(table, planted)
    assert found.rows.tolist() == list(range(30)) == found.originals.tolist() and found.by_chance < 1
    everywhere = {name: np.r_[values, values[:50]] for name, values in table.items()}
    assert repeated_rows(everywhere).by_chance < 5 < 50 == len(repeated_rows(everywhere).rows)
    one = {"text": np.array(["a b", "c", "a  B"], object)}
    assert repeated_rows(one).pairs == 1 and repeated_rows(one).by_chance == 0


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine, load_diabetes])
def test_rows_with_noise_are_near_and_others_are_not(load):
    data = load().data
    x = ((data - data.mean(0)) / data.std(0))[np.random.default_rng(0).permutation(len(data))]
    assert near_rows(x[100:], x[:100]) == [] == near_rows(x)
    noise = 1e-3 * np.random.default_rng(1).normal(size=(5, x.shape[1]))
    assert near_rows(x[100:], np.r_[x[:50], x[110:115] + noise]) == [(50 + i, 10 + i) for i in range(5)]
    assert near_rows(np.r_[x, x[:5] + noise]) == [(i, len(x) + i) for i in range(5)]
    assert near_rows(x[:19], x[:19]) == []


@pytest.mark.parametrize("dimensions", [1, 2, 5, 100])
def test_near_rows_are_rare_whatever_the_density(dimensions):
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(size=(3000, 1)) * 2)  # dense in the middle, and sparse outside
    x = rng.normal(size=(3000, dimensions)) * spread
    assert len(near_rows(x[500:], x[:500])) <= 1


TEXTS = [
    f"{who} {what} on {day} and came home {how} before the {event} began in the old {place}."
    for who, day in (("Anna", "Monday"), ("Boris", "Friday"))
    for what, event in (("bought seven green apples", "long storm"), ("lost the keys of her boat", "music festival"))
    for how, place in (("rather late", "harbour"), ("with a cold", "theatre"))
]


def jaccard(a, b):
    sets = [{text.lower()[i : i + 8] for i in range(len(text) - 7)} for text in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_texts_with_edits_are_near():
    edited = [text.replace("and came", "and  then came").upper() for text in TEXTS[:3]]
    found = near_texts(TEXTS, ["short", "A text of another kind, with more than forty bytes.", *edited])
    assert found == [(2, 0), (3, 1), (4, 2)]
    assert (1, len(TEXTS)) in near_texts([*TEXTS, edited[1]])
    every = {(i, j) for i in range(8) for j in range(i) if jaccard(TEXTS[i], TEXTS[j]) >= 0.7}
    assert {(b, a) for a, b in near_texts(TEXTS)} == every
    assert near_texts(["", "x"], ["", "x"]) == []
