"""Gaussian-process search against closed forms, integrals and scikit-learn's own process."""

import numpy as np
import optuna
import pytest
from scipy import integrate, stats

from research.search.gp import encode, expected_improvement, propose
from research.search.space import Choices, Range, Space

SPACE = Space({"rate": Range(1e-4, 1e-1, True), "width": Range(1, 64), "kind": Choices(("a", True, 1, None))}, {})
PLANE = Space({"x": Range(-1.0, 1.0), "y": Range(-1.0, 1.0)}, {})


def trials(space, values, *, running=()):
    """Finished trials with these (params, value), and running ones."""
    kinds = optuna.distributions
    made = {
        name: kinds.CategoricalDistribution(of.values) if isinstance(of, Choices)
        else kinds.IntDistribution(of.low, of.high) if isinstance(of.low, int)
        else kinds.FloatDistribution(of.low, of.high, log=of.log)
        for name, of in space.searched.items()
    }  # fmt: skip
    done = [optuna.create_trial(params=p, distributions=made, value=v) for p, v in values]
    alive = [optuna.create_trial(params=p, distributions=made, state=optuna.trial.TrialState.RUNNING) for p in running]
    return done + alive


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 1.0, 0.5), (2.0, 0.3, 0.5), (-1.0, 0.5, 1.0)])
def test_expected_improvement_is_the_integral(mean, deviation, best):
    density = lambda f: max(0.0, f - best) * stats.norm.pdf(f, mean, deviation)
    truth, _ = integrate.quad(density, best, mean + 12 * deviation, epsabs=1e-12)
    assert expected_improvement(np.float64(mean), np.float64(deviation), best) == pytest.approx(truth, abs=1e-9)


def test_without_uncertainty_it_is_the_gain():
    found = expected_improvement(np.array([1.0, 3.0]), np.array([0.0, 0.0]), 2.0)
    assert found == pytest.approx([0.0, 0.0])  # a point that is known brings nothing, however good


def test_the_unit_cube():
    point = encode(SPACE, {"rate": 1e-4, "width": 64, "kind": True})
    assert point == pytest.approx([0, 1, 0, 1, 0, 0])  # True is not 1
    assert encode(SPACE, {"rate": 10**-2.5, "width": 1, "kind": 1})[:2] == pytest.approx([0.5, 0])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_it_goes_where_a_quadratic_is_best(mode):
    rng = np.random.default_rng(0)
    sign = 1 if mode == "min" else -1
    cost = lambda p: sign * ((p["x"] - 0.4) ** 2 + (p["y"] + 0.2) ** 2)
    known = [{"x": float(x), "y": float(y)} for x, y in rng.uniform(-1, 1, (25, 2))]
    known = [(p, cost(p)) for p in known]
    point = propose(PLANE, trials(PLANE, known), mode=mode, seed=0)
    assert abs(point["x"] - 0.4) < 0.15 and abs(point["y"] + 0.2) < 0.15
    assert point == propose(PLANE, trials(PLANE, known), mode=mode, seed=0)
    # One worker has gone there: the next one does not look at the very same place.
    other = propose(PLANE, trials(PLANE, known, running=[point]), mode=mode, seed=0)
    assert other != point


def test_a_diverged_trial_does_not_flatten_the_rest():
    """Only the order of the values counts."""
    rng = np.random.default_rng(1)
    known = [{"x": float(x), "y": float(y)} for x, y in rng.uniform(-1, 1, (9, 2))]
    known = [(p, (p["x"] - 0.4) ** 2 + (p["y"] + 0.2) ** 2) for p in known]
    points = [
        propose(PLANE, trials(PLANE, [*known, ({"x": -0.9, "y": 0.9}, worst)]), mode="min", seed=0)
        for worst in (50.0, 1e12)
    ]
    assert points[0] == points[1]


def test_the_first_trials_are_left_to_chance_and_proposals_lie_in_the_space():
    rng = np.random.default_rng(0)
    draw = lambda: {
        "rate": float(10 ** rng.uniform(-4, -1)),
        "width": int(rng.integers(1, 65)),
        "kind": [True, 1, None][rng.integers(3)],
    }
    known = [(p, float(p["width"]) - 10 * (p["kind"] is None)) for p in (draw() for _ in range(12))]
    assert propose(SPACE, trials(SPACE, known[:7]), mode="min", seed=0) is None
    point = propose(SPACE, trials(SPACE, known), mode="min", seed=0)
    assert 1e-4 <= point["rate"] <= 1e-1 and isinstance(point["width"], int) and 1 <= point["width"] <= 12
