"""Totals of metric states are exact; packed as bits they are what they were, in every type."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Eval, Mean, State
from research.data import arrays, eval_batches
from research.distributed.sharding import make_mesh
from research.evaluate import evaluator, fetch_total
from research.metric_sums import MetricSums, Total

METRICS = {
    "loss": Mean(jnp.float32(jnp.nan), jnp.float32(3)),
    "per_class": Mean({"a": jnp.arange(6, dtype=jnp.float32).reshape(2, 3) / 7}, jnp.float32(1e-38)),
    "confusion": jnp.array([[2**31 - 1, -1], [0, -(2**31)]], jnp.int32),
    "half": jnp.array([1 / 3, -jnp.inf], jnp.bfloat16),
    "small": jnp.array([[-128], [127]], jnp.int8),
    "empty": jnp.zeros((0, 2)),
}


@pytest.mark.parametrize("fetch", [lambda x: x, jax.device_get], ids=["device", "host"])
def test_what_goes_in_comes_out_bit_for_bit(fetch):
    total = Total(METRICS, jax.tree.map(lambda x: -x, METRICS))
    sums = fetch(jax.jit(MetricSums.of)(total, jnp.int32(-1)))
    assert sums.bits.shape == (2 * (2 + 7 + 4 + 2 + 2) + 1,) and int(sums.bad) == -1
    found, expected = jax.tree.flatten(sums.total), jax.tree.flatten(total)
    assert found[1] == expected[1]
    for a, b in zip(found[0], expected[0], strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_one_array_goes_in_and_out_of_a_step_and_equal_forms_are_one():
    a, b = (MetricSums.of(Total(METRICS, METRICS), jnp.int32(n)) for n in (0, 1))
    assert len(jax.tree.leaves(a)) == 1 and a.form is b.form
    assert MetricSums.of(Total({"loss": METRICS["loss"]}, {}), jnp.int32(0)).form is not a.form
    step = jax.jit(lambda sums: MetricSums.of(sums.total, sums.bad + 1))
    assert int(step(step(a)).bad) == 2 and step._cache_size() == 1


@jax.jit
def total_of(batches):
    return jax.lax.scan(
        lambda total, x: (total.plus(x), None), Total.zero(jax.tree.map(lambda x: x[0], batches)), batches
    )[0]


def test_sums_over_many_batches_are_those_of_f64():
    count = 20_000
    rng = np.random.default_rng(0)
    batches = {
        "constant": Mean(jnp.full(count, 25.6, jnp.float32), jnp.full(count, 256.0)),
        "sizes": jnp.asarray(rng.normal(size=(count, 3)) * 10.0 ** rng.integers(-6, 6, (count, 3)), jnp.float32),
        "steps": jnp.full(count, 1_000_001.0),
        "small": jnp.full(count, 1, jnp.bfloat16),
        "whole": jnp.full(count, 7, jnp.int32),
    }
    found = fetch_total(total_of(batches))
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64).sum(0), batches)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-7), found, exact)
    assert found["constant"].value() == np.float32(25.6) / 256
    assert found["steps"] == count * 1_000_001 and found["small"] == count


def test_a_count_does_not_stop_at_2_to_the_24():
    start = jnp.array([2.0**24, 2.0**24, 2.0**26])
    total = total_of(jnp.concatenate([start[None], jnp.ones((2**13, 3)), -start[None]]))
    assert fetch_total(total).tolist() == [2**13] * 3
    # Also if the part below the digits of f32 outgrows them.
    total = jax.jit(lambda total: jax.lax.fori_loop(0, 2**25, lambda _, t: t.plus(jnp.float32(1)), total))(
        Total(jnp.float32(2**24), jnp.float32(0))
    )
    assert fetch_total(total) == 2**24 + 2**25


@pytest.mark.parametrize("values", [[1, np.inf, 2], [1, -np.inf, 2], [np.inf, -np.inf, 1], [np.nan, 1, 1]])
def test_a_total_of_non_finite_numbers_is_their_sum(values):
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(fetch_total(total_of(jnp.array(values, jnp.float32))), np.sum(values))


def test_an_evaluation_counts_beyond_2_to_the_24():
    source = eval_batches(arrays(x=np.array([2.0**24, 1, 1, 1], np.float32)), 1)

    def measure(trained, batch):
        return {"x": Mean(batch["x"].sum(), jnp.float32(1)), "matrix": Matrix(batch["x"])}

    evaluate = evaluator(Eval(source, measure), lambda *_: None, mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]))
    state = State(*(jnp.uint32(0), jnp.uint32(0), jnp.int32(0)), {}, {}, {})
    results = evaluate(state)
    assert results.numbers["x"] == (2**24 + 3) / 4
    assert results.arrays["matrix"].tolist() == [2**24 + 3]


class Matrix(NamedTuple):
    counts: Any

    def value(self):
        return self.counts
