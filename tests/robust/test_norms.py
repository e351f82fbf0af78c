import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from research.core import draw
from research.robust.norms import l1, l2, linf, project_l1, project_l2, project_linf

RNG = np.random.default_rng(0)
SIZE = {"linf": lambda x: np.abs(x).max(), "l2": np.linalg.norm, "l1": lambda x: np.abs(x).sum()}
NORMS = {"linf": linf, "l2": l2, "l1": l1}


@pytest.mark.parametrize("name", NORMS)
def test_the_projection_is_the_closest_point_of_the_ball(name):
    # Both are split into positive and negative parts, so that the bound on the l1 norm is linear.
    size = SIZE[name]
    for radius, scale in itertools.product((0.5, 2.0), (0.1, 1.0, 5.0)):
        x = (scale * RNG.normal(size=5)).astype(np.float32)
        found = np.asarray(NORMS[name].project(jnp.asarray(x).reshape(5, 1), radius)).reshape(5)
        limit = {
            "linf": dict(bounds=[(0, radius)] * 10),
            "l2": dict(
                bounds=[(0, None)] * 10,
                constraints={"type": "ineq", "fun": lambda p, r=radius: r**2 - np.sum((p[:5] - p[5:]) ** 2)},
            ),
            "l1": dict(bounds=[(0, None)] * 10, constraints={"type": "ineq", "fun": lambda p, r=radius: r - p.sum()}),
        }[name]
        closest = scipy.optimize.minimize(
            lambda p, x=x: np.sum((p[:5] - p[5:] - x) ** 2), np.full(10, 0.01), method="SLSQP", tol=1e-12, **limit
        )
        np.testing.assert_allclose(found, closest.x[:5] - closest.x[5:], atol=2e-4)
        assert size(found) <= radius * (1 + 1e-5)
        if size(x) <= radius:
            np.testing.assert_allclose(found, x, rtol=1e-6)


def test_a_ball_of_radius_0_is_a_point_and_the_centre_stays():
    x = jnp.asarray(RNG.normal(size=(2, 3)).astype(np.float32))
    for project in (project_linf, project_l2, project_l1):
        assert (project(x, 0.0) == 0).all() and (project(0 * x, 0.0) == 0).all() and (project(0 * x, 1.0) == 0).all()


@pytest.mark.parametrize("name", NORMS)
def test_no_step_of_norm_1_raises_a_linear_function_more(name):
    gradient = RNG.normal(size=6).astype(np.float32)
    free = np.ones(6, bool)
    step = np.asarray(NORMS[name].steepest(jnp.asarray(gradient).reshape(2, 3), free.reshape(2, 3))).reshape(6)
    np.testing.assert_allclose(SIZE[name](step), 1, rtol=1e-6)
    dual = {"linf": "l1", "l2": "l2", "l1": "linf"}[name]
    np.testing.assert_allclose(step @ gradient, SIZE[dual](gradient), rtol=1e-6)
    assert (NORMS[name].steepest(jnp.zeros(6), free) == 0).all()


def test_l1_moves_the_best_entry_that_can_move():
    free = jnp.array([True, False, True])
    np.testing.assert_array_equal(l1.steepest(jnp.array([1.0, -9.0, -2.0]), free), [0, 0, -1])
    np.testing.assert_array_equal(l1.steepest(jnp.array([1.0, -9.0, -2.0]), free & False), [0, 0, 0])


def test_the_length_of_small_gradients_does_not_underflow():
    tiny = jnp.full(4, 1e-25)
    np.testing.assert_allclose(l2.steepest(tiny, tiny == 0), 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_starts_are_even_in_the_ball(name):
    draws = jax.vmap(lambda k: NORMS[name].sample(k, (3, 1), 2.0))(draw(0, jnp.arange(4000)))
    draws = np.asarray(draws).reshape(4000, 3)
    sizes = np.array([SIZE[name](x) for x in draws])
    assert sizes.max() <= 2 * (1 + 1e-6)
    # In 3 dimensions (size / radius) ** 3 is even on 0..1, and every octant has an eighth.
    assert scipy.stats.kstest((sizes / 2) ** 3, "uniform").pvalue > 1e-3
    octants = np.bincount((draws > 0) @ [1, 2, 4], minlength=8)
    assert scipy.stats.chisquare(octants).pvalue > 1e-3
    # Even on the surface too: no axis is longer than another.
    assert scipy.stats.kstest(np.abs(draws[:, 0]), np.abs(draws[:, 2])).pvalue > 1e-3
    second = {"linf": 4 / 3, "l2": 4 / 5, "l1": 4 / 10}[name]  # E x_i^2 in the ball of radius 2
    np.testing.assert_allclose((draws**2).mean(0), second, rtol=0.08)
