import numpy as np
import pytest
from scipy import stats

from research.data import arrays
from research.data.sampling.poisson import capacity_for, poisson
from research.errors import UserError

N, EXPECTED, STEPS = 40, 10, 2000


def numbered(n=N, **columns):
    return arrays(index=np.arange(n), x=np.arange(2.0 * n).reshape(n, 2), **columns)


def drawn(source, step):
    batch = source(step)
    return batch["index"][batch["mask"] > 0]


@pytest.fixture(scope="module")
def inclusions():
    """Who was in which batch, bool [STEPS, N]."""
    source = poisson(numbered(), expected=EXPECTED, capacity=N)(3)
    found = np.zeros((STEPS, N), bool)
    for step in range(STEPS):
        found[step, drawn(source, step)] = True
    return found


def test_every_record_comes_at_the_rate(inclusions):
    rate = EXPECTED / N
    spread = np.sqrt(rate * (1 - rate) / STEPS)
    assert np.abs(inclusions.mean(0) - rate).max() < 5 * spread
    counts = np.bincount(inclusions.sum(0))
    assert counts.size > STEPS * rate, "the counts of the records are not all alike"


def test_batch_sizes_are_binomial(inclusions):
    sizes = inclusions.sum(1)
    edges = np.array([-0.5, 6.5, 8.5, 9.5, 10.5, 11.5, 13.5, N + 0.5])
    seen = np.histogram(sizes, edges)[0]
    expected = STEPS * np.diff(stats.binom.cdf(edges, N, EXPECTED / N))
    assert stats.chisquare(seen, expected).pvalue > 1e-4


def test_records_and_steps_are_independent(inclusions):
    bound = 5 / np.sqrt(STEPS)
    among = np.corrcoef(inclusions.T)
    assert np.abs(among - np.eye(N)).max() < bound
    later = np.corrcoef(inclusions[1:].T, inclusions[:-1].T)[:N, N:]
    assert np.abs(later).max() < bound


def test_a_batch_is_pure_padded_and_masked():
    source = poisson(numbered(), expected=EXPECTED, capacity=25)
    assert (source.size, source.examples, source.rate) == (25, N, 0.25)
    one, other = source(5), source(5)
    for step in (7, 0, 7):
        batch = one(step)
        assert {name: x.shape for name, x in batch.items()} == {"index": (25,), "x": (25, 2), "mask": (25,)}
        for name, x in other(step).items():
            np.testing.assert_array_equal(batch[name], x)
        real = int(batch["mask"].sum())
        assert batch["mask"].dtype == np.float32 and batch["mask"].tolist() == [1.0] * real + [0.0] * (25 - real)
        assert len(set(batch["index"][:real])) == real, "no record twice"
        assert (batch["index"][real:] == batch["index"][0]).all()
        np.testing.assert_array_equal(batch["x"][:, 0], 2 * batch["index"])
    assert drawn(source(5), 1).tolist() != drawn(source(6), 1).tolist() != drawn(source(5), 2).tolist()


def test_processes_hold_rows_of_one_batch():
    source = poisson(numbered(), expected=EXPECTED, capacity=24)(1)
    for step in range(3):
        whole, parts = source(step), [source(step, slice(8 * p, 8 * p + 8)) for p in range(3)]
        for name, x in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), x)
    np.testing.assert_array_equal(source(2, np.array([20, 1]))["mask"], [0, 1])


def test_an_empty_batch_is_all_padding_and_a_full_one_holds_all():
    source = poisson(numbered(), expected=1e-6, capacity=4)(0)
    assert sum(len(drawn(source, step)) for step in range(3)) == 0
    assert source(0)["index"].tolist() == [0, 0, 0, 0]
    assert drawn(poisson(numbered(), expected=N, capacity=N)(0), 0).tolist() == list(range(N))


def test_augmentation_is_keyed_by_seed_step_and_record():
    def shifted(rng, record):
        return {**record, "x": rng.random()}

    source = poisson(numbered(6), expected=6, capacity=6, augment=shifted)
    values = np.concatenate([source(seed)(step)["x"] for seed in (0, 1) for step in (0, 1)])
    assert len(set(values)) == 24
    np.testing.assert_array_equal(source(0)(1)["x"], source(0)(1)["x"])


def test_a_batch_that_does_not_fit_is_an_error_not_a_cut():
    source = poisson(numbered(), expected=EXPECTED, capacity=EXPECTED)(0)
    with pytest.raises(UserError, match="more than the capacity of 10 for an expected 10.*capacity_for"):
        for step in range(50):
            source(step)


@pytest.mark.parametrize(("examples", "expected", "steps"), [(60_000, 256, 14_000), (40, 10, 1), (100, 100, 5)])
def test_the_capacity_is_the_least_that_all_steps_fit(examples, expected, steps):
    capacity = capacity_for(examples=examples, expected=expected, steps=steps)
    # The tail, summed from the terms themselves.
    terms = stats.binom.logpmf(np.arange(examples + 1), examples, expected / examples)
    tail = lambda above: np.exp(terms[above + 1 :]).sum()
    assert tail(capacity) <= 1e-9 / steps * (1 + 1e-6) and (tail(capacity - 1) > 1e-9 / steps or capacity == examples)
    rounded = capacity_for(examples=examples, expected=expected, steps=steps, multiple=64)
    assert rounded % 64 == 0 and 0 <= rounded - capacity < 64
    assert capacity_for(examples=examples, expected=expected, steps=steps, failure=0.1) <= capacity


@pytest.mark.parametrize("failure", [1e-13, 1e-60])
def test_a_capacity_for_tiny_probabilities_of_failure(failure):
    capacity = capacity_for(examples=60_000, expected=256, steps=14_000, failure=failure)
    terms = stats.binom.logpmf(np.arange(60_001), 60_000, 256 / 60_000)
    tail = lambda above: np.exp(terms[above + 1 :]).sum()
    assert tail(capacity) <= failure / 14_000 * (1 + 1e-6) < tail(capacity - 1)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="is empty"):
        poisson([], expected=1, capacity=1)
    for expected in (0, N + 1):
        with pytest.raises(UserError, match=f"an expected batch of {expected} of 40 records"):
            poisson(numbered(), expected=expected, capacity=N)
    with pytest.raises(UserError, match="a capacity of 9 for an expected batch of 10"):
        poisson(numbered(), expected=10, capacity=9)
    with pytest.raises(UserError, match="a batch size of 0"):
        poisson(numbered(), expected=10, capacity=0)
    with pytest.raises(UserError, match="have a field 'mask'"):
        poisson(numbered(mask=np.ones(N)), expected=10, capacity=N)(0)(0)
    with pytest.raises(UserError, match="a capacity for expected=0"):
        capacity_for(examples=10, expected=0, steps=1)
