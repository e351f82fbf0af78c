"""Sums carried as bits are what they were, in every type, and cost a dispatch no comparing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Mean
from research.metric_sums import MetricSums

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
    sums = fetch(jax.jit(MetricSums.of)(METRICS, jnp.int32(-1)))
    assert sums.bits.shape == (2 + 7 + 4 + 2 + 2 + 1,) and int(sums.bad) == -1
    found, expected = jax.tree.flatten(sums.metrics), jax.tree.flatten(METRICS)
    assert found[1] == expected[1]
    for a, b in zip(found[0], expected[0], strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_one_array_goes_in_and_out_of_a_step_and_equal_forms_are_one():
    a, b = (MetricSums.of(METRICS, jnp.int32(n)) for n in (0, 1))
    assert len(jax.tree.leaves(a)) == 1 and a.form is b.form
    assert MetricSums.of({"loss": METRICS["loss"]}, jnp.int32(0)).form is not a.form
    step = jax.jit(lambda sums: MetricSums.of(sums.metrics, sums.bad + 1))
    assert int(step(step(a)).bad) == 2 and step._cache_size() == 1
