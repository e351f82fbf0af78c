"""Stochastic weight averaging against the mean of the trajectory, and batch statistics made anew against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import State
from research.errors import UserError
from research.layers.batch_norm import BatchNorm
from research.model import from_nnx
from research.optim.averaging import stochastic_average, with_batch_statistics
from tests.optim.test_ema import trajectory


def test_it_is_the_mean_of_the_trajectory_from_its_start_on():
    average = stochastic_average(start=5, every=3)
    params, state = trajectory(average, steps=15)
    np.testing.assert_allclose(average.view(state)[0]["w"], np.mean([params[i] for i in (5, 8, 11, 14)], 0), rtol=1e-5)
    assert int(state.stats["average"]["count"]) == 4


def test_before_its_start_the_view_is_the_live_weights():
    average = stochastic_average(start=50, every=1)
    params, state = trajectory(average, steps=4)
    np.testing.assert_array_equal(average.view(state)[0]["w"], params[-1])


def test_a_step_that_was_taken_back_is_in_no_mean():
    """As `on_nonfinite="skip"` does: the step counts, stats are as before."""
    average = stochastic_average(start=0, every=1)
    weights = [{"w": jnp.full(2, float(i))} for i in range(5)]
    stats = {"average": average.memory(None, weights[0])}
    for step, new in enumerate(weights):
        state = State(None, None, jnp.int32(step), new, stats, None)
        stats = stats if step == 2 else average.after(state, new)
    np.testing.assert_allclose(stats["average"]["mean"]["w"], np.mean([0, 1, 3, 4]), rtol=1e-6)


def test_batch_statistics_are_those_of_the_views_weights():
    model = from_nnx(lambda rngs: BatchNorm(3, momentum=0.5))
    params, stats = model.init(jax.random.key(0))
    batches = np.random.default_rng(0).normal(2.0, 3.0, size=(12, 64, 3)).astype(np.float32)
    state = State(jnp.uint32(0), None, None, params, {**stats, "other": jnp.int32(7)}, None)
    view = with_batch_statistics(
        lambda s: (s.params, s.stats), model.apply, source=lambda step: {"image": batches[step]}, steps=12
    )
    _, found = view(state)
    mean = np.zeros(3)
    for batch in batches:
        mean = 0.5 * mean + 0.5 * batch.mean(0)
    np.testing.assert_allclose(found["model"]["mean"], mean, rtol=1e-5)
    assert found["other"] == 7 and np.all(state.stats["model"]["mean"] == 0)


def test_a_model_without_statistics_is_left_as_it_is():
    view = with_batch_statistics(
        lambda s: (s.params, s.stats), lambda p, s, x, key, train: (x, {}), source=lambda step: {"image": jnp.ones(1)}
    )
    assert view(State(jnp.uint32(0), None, None, {"w": 1}, {"n": 2}, None)) == ({"w": 1}, {"n": 2})


def test_arguments_that_make_no_average():
    with pytest.raises(UserError, match="every=0"):
        stochastic_average(start=0, every=0)
