"""The range test against the stability limit of gradient descent, and on the digits."""

import dataclasses
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Mean, Out
from research.diagnose import rate
from research.diagnose.case import make_case
from research.diagnose.finding import Finding
from research.diagnose.outcome import Passed
from tests import toys
from tests.diagnose.patients import patient


def quadratic(curvature, learning_rate, **changes):
    """Descent of 0.5 sum_i curvature_i (w_i + noise)^2 from w = 1: stable below a rate of 2 / max(curvature). Without
    noise, the steps near 1 / curvature would leave nothing that could grow beyond the limit.
    """
    curvature = jnp.asarray(curvature)

    def loss(params, ctx):
        value = 0.5 * jnp.sum(curvature * (params["w"] + 0.1 * jax.random.normal(ctx.key, curvature.shape)) ** 2)
        return value, Out({}, {"loss": Mean(value, jnp.float32(1))})

    return toys.experiment(
        init=lambda key: ({"w": jnp.ones(len(curvature))}, {}), loss=loss, optimizer=optax.sgd(learning_rate),
        schedules={"learning_rate": lambda step: learning_rate}, evals={}, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("learning_rate", [0.01, 0.1])
def test_a_quadratic_turns_at_its_stability_limit(learning_rate):
    found = rate.range_test(make_case(quadratic([20.0, 1.0, 0.1], learning_rate)))
    limit = 2 / 20.0
    assert found.reference == pytest.approx(learning_rate)
    assert limit < found.diverged * learning_rate < 3 * limit
    assert limit / 10 < found.turning * learning_rate < 2 * limit and found.turning < found.diverged
    assert found.steepest * learning_rate < limit
    assert found.suggestion == pytest.approx(min(found.steepest, found.diverged / 10))


def test_the_schedule_is_held_at_its_highest_and_adam_is_linear_in_its_rate():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.02, 10, 40)
    warmed = quadratic([1.0, 0.5], 1.0)
    warmed = dataclasses.replace(warmed, optimizer=optax.adam(schedule), schedules={"learning_rate": schedule})
    case = make_case(warmed)
    assert rate.peak(case) == (10, pytest.approx(0.02))
    plain = dataclasses.replace(warmed, optimizer=optax.adam(0.02), schedules={"learning_rate": lambda step: 0.02})
    curves = [rate.range_test(case, steps=30).losses, rate.range_test(make_case(plain), steps=30).losses]
    np.testing.assert_allclose(*curves, rtol=1e-5)


def test_a_rate_is_judged_by_where_the_loss_diverges():
    factors = np.geomspace(1e-4, 1e2, 100)
    falls = np.where(factors < 1, 1 - 0.9 * np.clip(np.log10(factors) + 4, 0, 3.5) / 3.5, 0.1)
    bend = lambda at: np.where(factors > at, 0.1 * (factors / at) ** 3, falls)
    assert rate.judged(factors, falls).diverged is None
    for at in (3, 20):
        assert at < rate.judged(factors, bend(at)).diverged < 3 * at
    flat = rate.judged(factors, np.ones(100))
    assert flat.suggestion is None and flat.steepest is None
    broken = rate.judged(factors[:50], np.append(falls[:49], np.nan))
    assert broken.diverged == pytest.approx(factors[49])
    ups = rate.judged(factors, falls + 0.5 * (np.arange(100) == 60))  # one bad batch is no divergence
    assert ups.diverged is None
    np.testing.assert_allclose(rate.smooth([2.0, 2.0, 2.0]), 2.0)
    np.testing.assert_allclose(rate.smooth([1.0, 0.0]), [1.0, 0.8 * 0.2 / (1 - 0.8**2)])


def test_too_high_a_rate_on_the_digits_is_a_problem_and_a_sound_one_is_not(tmp_path):
    sound, high = make_case(patient()), make_case(patient(rate=1.0))
    found = rate.range_test(sound)
    outcome = rate.rate(sound, found)
    assert isinstance(outcome, Passed), outcome
    assert 3e-4 < found.suggestion * 3e-3 < 3e-2
    told = rate.rate(high, rate.range_test(high))
    assert isinstance(told, Finding) and told.problem and "diverges at" in told.text
    tiny = make_case(patient(rate=1e-7))
    told = rate.rate(tiny, rate.range_test(tiny))
    assert isinstance(told, Finding), told
    svg = rate.picture(found, tmp_path / "rate.svg")
    assert svg.startswith("<svg") and "suggestion" in svg
    assert float(ElementTree.parse(tmp_path / "rate.svg").getroot().get("width")) > 500


def test_a_loss_that_never_falls_is_a_problem():
    stuck = quadratic([0.0, 0.0], 0.1)
    case = make_case(stuck)
    told = rate.rate(case, rate.range_test(case, steps=20))
    assert told.problem and "falls at no rate" in told.text
