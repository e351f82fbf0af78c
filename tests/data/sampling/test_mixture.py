import numpy as np
import pytest

from research.data import arrays, mixture
from research.data.sampling.mixture import largest_remainder, pattern, quotas
from research.errors import UserError


def part(code, n):
    return arrays(part=np.full(n, code), index=np.arange(n))


def parts():
    return {"a": part(0, 7), "b": part(1, 11), "c": part(2, 3)}


def walked(source, count, size):
    drawn = [source(step) for step in range(-(-count // size))]
    return tuple(np.concatenate([batch[name] for batch in drawn])[:count] for name in ("part", "index"))


def test_proportions_are_exact_over_a_period_and_even_within():
    source = mixture(parts(), 4, weights={"a": 0.5, "b": 0.3, "c": 0.2})
    assert source.quotas == {"a": 5, "b": 3, "c": 2}
    kinds, _ = walked(source(0), 1000, 4)
    for window in kinds.reshape(-1, 10):
        assert np.bincount(window).tolist() == [5, 3, 2]
    for end in range(1, 1000):
        assert np.abs(np.bincount(kinds[:end], minlength=3) - end * np.array([0.5, 0.3, 0.2])).max() < 2


@pytest.mark.parametrize("size", [1, 4, 32])
def test_each_part_comes_once_in_each_of_its_own_epochs(size):
    kinds, indices = walked(mixture(parts(), size, weights={"a": 2, "b": 1, "c": 1})(9), 800, size)
    for code, n in ((0, 7), (1, 11), (2, 3)):
        own = indices[kinds == code]
        epochs = own[: len(own) // n * n].reshape(-1, n)
        np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1)))
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_step_is_pure_and_splits_over_processes():
    augment = lambda rng, record: {**record, "noise": rng.random()}
    make = lambda: mixture(parts(), 12, weights={"a": 5, "b": 3, "c": 2}, augment=augment)(3)
    source, fresh = make(), make()
    for step in (40, 3, 3, 0, 17):
        whole = source(step)
        for processes in (1, 2, 3, 4):
            share = 12 // processes
            rows = [fresh(step, slice(p * share, (p + 1) * share)) for p in range(processes)]
            for name in whole:
                np.testing.assert_array_equal(np.concatenate([row[name] for row in rows]), whole[name])


def test_seeds_and_parts_have_orders_of_their_own():
    both = {"a": part(0, 50), "b": part(1, 50)}
    kinds, indices = walked(mixture(both, 10)(0), 100, 10)
    assert indices[kinds == 0].tolist() != indices[kinds == 1].tolist()
    assert indices.tolist() != walked(mixture(both, 10)(1), 100, 10)[1].tolist()


def test_one_part_is_a_mixture_too():
    source = mixture({"a": part(0, 5)}, 5)
    assert sorted(source(0)(3)["index"].tolist()) == [0, 1, 2, 3, 4] and source.examples == 5
    assert mixture(parts(), 3).examples == 21


def test_quotas():
    assert quotas([1, 1, 1]) == [1, 1, 1]
    assert quotas([750, 250]) == [3, 1]
    assert quotas([0.1, 0.2, 0.7]) == [1, 2, 7]
    assert sum(quotas([np.pi, np.e])) <= 100_000
    a, b = quotas([np.pi, np.e])
    assert a / b == pytest.approx(np.pi / np.e, rel=1e-4)


def test_pattern_counts_earlier_draws():
    kinds, earlier = pattern([4, 1, 3])
    for slot, kind in enumerate(kinds):
        assert earlier[slot] == np.sum(kinds[:slot] == kind)


def test_largest_remainder_against_the_definition():
    assert largest_remainder([1, 1, 1], 4).tolist() == [2, 1, 1]
    assert largest_remainder([47, 16, 15.8, 12, 6.1, 3.1], 10).tolist() == [5, 2, 1, 1, 1, 0]  # Wikipedia's example
    assert largest_remainder([0, 5], 3).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mixture({}, 2), "no data sets"),
        (lambda: mixture(parts(), 2, weights={"a": 1, "b": 1, "d": 1}), "unknown data set in the weights 'd'"),
        (lambda: mixture(parts(), 2, weights={"a": 1, "b": 1}), "'c' is None"),
        (lambda: mixture(parts(), 2, weights={"a": 1, "b": 1, "c": 0}), "'c' is 0"),
        (lambda: mixture(parts(), 2, weights={"a": 1, "b": 1, "c": 1e-9}), "below 1/100000"),
        (lambda: mixture({"a": part(0, 2), "b": []}, 2), "'b' is empty"),
        (lambda: mixture({"a": part(0, 2), "b": arrays(part=np.zeros(2))}, 2), "different records"),
        (lambda: mixture({"a": arrays(x=np.zeros(2)), "b": arrays(x=np.zeros(2, "i4"))}, 2), "different records"),
    ],
)
def test_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()
