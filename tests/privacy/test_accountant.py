import math
import sys

import jaxtyping
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from research.errors import UserError
from research.privacy import accountant
from research.privacy.accountant import epsilon, noise_for

MNIST = {"examples": 60_000, "batch_size": 256, "delta": 1e-5}


def gaussian_epsilon(mu, delta):
    """Epsilon of a Gaussian mechanism with sensitivity / noise = mu: Balle & Wang 2018, theorem 8."""
    spent = lambda eps: norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu)
    return brentq(lambda eps: spent(eps) - delta, 0, 200)


def central_limit(noise, steps, *, examples, batch_size, delta):
    """Epsilon in the limit of many small steps, a little too low: Bu et al. 2020, equation (5)."""
    mu = batch_size / examples * math.sqrt(steps * math.expm1(1 / noise**2))
    return gaussian_epsilon(mu, delta)


def renyi(noise, steps, *, examples, batch_size, delta):
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    step = dp_accounting.PoissonSampledDpEvent(batch_size / examples, dp_accounting.GaussianDpEvent(noise))
    return RdpAccountant().compose(dp_accounting.SelfComposedDpEvent(step, steps)).get_epsilon(delta)


@pytest.mark.parametrize(("noise", "steps"), [(4.0, 1), (10.0, 30), (3.0, 100)])
def test_whole_batches_are_the_gaussian_mechanism(noise, steps):
    found = epsilon(examples=100, batch_size=100, noise=noise, steps=steps, delta=1e-5)
    exact = gaussian_epsilon(math.sqrt(steps) / noise, 1e-5)
    assert exact * (1 - 1e-6) <= found <= exact * 1.002


# (noise, epochs, epsilon by moments): the first three are of the README of TensorFlow Privacy's tutorials
# (tutorials/README.md at 047e1ee), the others of Bu et al. 2020, figure 4.
PUBLISHED = [(1.12, 60, 2.92), (0.6, 30, 9.74), (1.2, 10, 1.20), (1.3, 20, 1.34), (0.7, 70, 8.68)]


@pytest.mark.parametrize(("noise", "epochs", "published"), PUBLISHED)
def test_published_values_are_upper_bounds_and_the_central_limit_a_lower_one(noise, epochs, published):
    steps = round(epochs * 60_000 / 256)
    found = epsilon(noise=noise, steps=steps, **MNIST)
    low = central_limit(noise, steps, **MNIST)
    assert low < found < 1.2 * low
    assert found < renyi(noise, steps, **MNIST) < published + 0.005
    assert found > 0.6 * published


TINY_RATE = {"examples": 60_000, "batch_size": 1, "delta": 1e-5}


@pytest.mark.parametrize(("plan", "divisor"), [
    ({**MNIST, "noise": 1.1, "steps": 14_000}, 5),
    ({"examples": 10_000, "batch_size": 1, "delta": 1e-5, "noise": 4.0, "steps": 10_000}, 10),
])  # fmt: skip
def test_the_step_of_the_discretisation_costs_little(monkeypatch, plan, divisor):
    coarse = epsilon(**plan)
    for name in ("INTERVAL", "DEVIATION"):
        monkeypatch.setattr(accountant, name, getattr(accountant, name) / divisor)
    accountant._one_step.cache_clear()
    fine = epsilon(**plan)
    accountant._one_step.cache_clear()
    assert fine < coarse < 1.002 * fine


def test_many_tiny_steps_are_near_the_central_limit():
    low = central_limit(1.0, 60_000, **TINY_RATE)
    assert low < epsilon(noise=1.0, steps=60_000, **TINY_RATE) < 1.02 * low


def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta():
    base = {**MNIST, "noise": 1.2, "steps": 500}
    ordered = [
        epsilon(**{**base, **change})
        for change in ({"noise": 2.0}, {"delta": 1e-4}, {}, {"steps": 900}, {"batch_size": 512, "steps": 900})
    ]
    assert ordered == sorted(ordered) and len(set(ordered)) == 5
    assert epsilon(**{**base, "steps": 0}) == 0 and epsilon(**{**base, "noise": 0}) == math.inf
    tiny = epsilon(**{**base, "noise": 0.1, "steps": 3})  # an enormous range of losses, in bounded time
    assert 50 < tiny < 1000


PLANS = [
    (3.0, {"examples": 55_000, "batch_size": 2048, "steps": 500}),
    (0.5, {"examples": 100, "batch_size": 100, "steps": 9}),
    (8.0, {"examples": 60_000, "batch_size": 256, "steps": 8_000}),  # a noise just below where the search begins
]


@pytest.mark.parametrize(("wanted", "plan"), PLANS)
def test_the_noise_is_the_least_that_keeps_to_epsilon(wanted, plan):
    noise = noise_for(epsilon=wanted, delta=1e-5, **plan)
    assert epsilon(noise=noise, delta=1e-5, **plan) <= wanted < epsilon(noise=0.998 * noise, delta=1e-5, **plan)
    if plan["examples"] == plan["batch_size"]:
        assert np.isclose(gaussian_epsilon(math.sqrt(plan["steps"]) / noise, 1e-5), wanted, rtol=3e-3)


def test_mistakes_are_named(monkeypatch):
    # Without the check of annotations, as outside the tests.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    good = {**MNIST, "noise": 1.0, "steps": 10}
    for change, message in (
        ({"batch_size": 60_001}, "an expected batch of 60001 of 60000 examples"),
        ({"batch_size": 0}, "an expected batch of 0"),
        ({"delta": 0.0}, "a delta of 0.0; expected a probability.*1 / examples = 2e-05"),
        ({"noise": -1.0}, "a noise of -1.0"),
        ({"noise": math.inf}, "a noise of inf"),
        ({"steps": -1}, "-1 steps"),
        ({"steps": 1.5}, "1.5 steps"),
    ):
        with pytest.raises(UserError, match=message):
            epsilon(**{**good, **change})
    with pytest.raises(UserError, match="an epsilon of 0"):
        noise_for(epsilon=0, steps=10, **MNIST)
    with pytest.raises(UserError, match="0 steps; expected at least 1"):
        noise_for(epsilon=1, steps=0, **MNIST)
    monkeypatch.setitem(sys.modules, "dp_accounting.pld", None)
    accountant._one_step.cache_clear()
    with pytest.raises(UserError, match=r"needs the extra: pip install -e '.\[privacy\]'"):
        epsilon(**good)
