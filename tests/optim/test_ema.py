"""The moving average against the recursion by hand, and in its limit."""

import jax
import numpy as np

from research.experiment import build
from research.optim.ema import ema
from tests import toys


def trajectory(average, steps=15):
    experiment = toys.experiment(techniques=(average,))
    built = build(experiment, devices=jax.devices()[:1])
    state, sums, batch_at = built.fresh(), built.fresh_sums(), built.source(0)
    params = [np.asarray(state.params["w"])]
    for step in range(steps):
        state, sums = built.step(state, sums, batch_at(step))
        params.append(np.asarray(state.params["w"]))
    return params, state


def test_it_is_the_recursion():
    average = ema(0.7)
    params, state = trajectory(average)
    expected = params[0]
    for t, new in enumerate(params[1:]):
        rate = min(0.7, (1 + t) / (10 + t))
        expected = rate * expected + (1 - rate) * new
    np.testing.assert_allclose(average.view(state)[0]["w"], expected, rtol=1e-5)
    assert not np.allclose(expected, params[-1])


def test_without_decay_it_is_the_live_weights():
    average = ema(0.0)
    params, state = trajectory(average)
    np.testing.assert_array_equal(average.view(state)[0]["w"], params[-1])
