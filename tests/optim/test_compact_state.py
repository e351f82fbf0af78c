"""Optimizer state in 16 bits: rounding without bias, moments that still move, and f32 as the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.experiment import build
from research.optim.compact_state import low_precision_state, offloaded, stochastic_round
from research.runs.checkpoint import Checkpoints
from research.tree import shapes
from tests import toys

PARAMS = {"w": np.ones(2048, np.float32), "b": np.float32(0)}


def ran(optimizer, steps):
    """(params, state) after steps with gradients whose square has the mean 2.5, in turn 1 and 2."""

    @jax.jit
    def update(step, params, state):
        grads = {"w": jnp.full(2048, 1.0 + step % 2), "b": jnp.ones(())}
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, jax.jit(optimizer.init)(PARAMS)
    for step in range(steps):
        params, state = update(step, params, state)
    return jax.device_get((params, state))


def test_rounding_is_to_a_neighbour_and_right_on_average():
    x = np.append(np.linspace(-3, 3, 301), [1e30, -0.0, 1.0]).astype(np.float32)
    keys = lambda: jax.random.split(jax.random.key(0), 4000)
    drawn = np.float32(jax.jit(lambda: jax.vmap(lambda key: stochastic_round(key, x))(keys()))())
    nearest = x.astype(jnp.bfloat16)
    gap = np.float32(np.nextafter(np.abs(nearest), jnp.bfloat16(np.inf))) - np.abs(np.float32(nearest))
    assert np.all(np.abs(drawn - x) <= gap * (1 + 1e-6))
    assert np.all(np.abs(drawn.mean(0) - x) <= 5 * gap * 0.5 / np.sqrt(4000))
    assert len(np.unique(drawn[:, 5])) == 2, "both neighbours occur"
    exact = np.float32(nearest) == x
    assert np.all(drawn[:, exact] == x[exact])


def test_what_is_not_finite_or_would_overflow_stays_what_it_is():
    x = np.float32([np.inf, -np.inf, np.nan, 65_510])
    found = np.float32(jax.jit(lambda key, x: stochastic_round(key, x, jnp.float16))(jax.random.key(0), x))
    np.testing.assert_array_equal(found[:3], x[:3])
    assert found[3] == 65_504


def test_in_f32_it_is_the_optimizer_itself():
    plain, narrowed = ran(optax.adam(1e-3), 5), ran(low_precision_state(optax.adam(1e-3), jnp.float32), 5)
    jax.tree.map(np.testing.assert_array_equal, plain[0], narrowed[0])
    jax.tree.map(np.testing.assert_array_equal, plain[1], narrowed[1].inner)


def test_in_bf16_the_second_moment_still_moves():
    (_, plain), (_, half) = (ran(how, 1500) for how in (optax.adam(1e-3), low_precision_state(optax.adam(1e-3))))
    assert half.inner[0].nu["w"].dtype == jnp.bfloat16 and half.inner[0].nu["b"].dtype == jnp.float32
    found = np.asarray(half.inner[0].nu["w"], np.float32)
    np.testing.assert_allclose(found.mean(), plain[0].nu["w"][0], rtol=2e-3)
    # The nearest rounding stops where a thousandth of the way is less than half a step: far below.
    stuck = np.zeros((), jnp.bfloat16)
    for step in range(1500):
        stuck = (np.float32(stuck) * np.float32(0.999) + np.float32(0.001) * (1 + step % 2) ** 2).astype(jnp.bfloat16)
    assert float(stuck) < 0.6 * float(plain[0].nu["w"][0])


def test_the_rounding_differs_from_step_to_step_and_from_array_to_array():
    optimizer = low_precision_state(optax.trace(0.5))
    params = {"a": np.zeros(512, np.float32), "b": np.zeros(512, np.float32)}
    update = jax.jit(lambda s: optimizer.update(jax.tree.map(lambda x: x + 0.7001, params), s, params)[1])
    one = update(optimizer.init(params))
    again = update(one._replace(inner=jax.tree.map(np.zeros_like, one.inner)))
    assert not np.array_equal(one.inner.trace["a"], one.inner.trace["b"])
    assert not np.array_equal(one.inner.trace["a"], again.inner.trace["a"])


def test_the_state_takes_half_the_bytes():
    size = lambda state: sum(x.nbytes for x in jax.tree.leaves(state))
    half, plain = low_precision_state(optax.adam(1e-3)).init(PARAMS), optax.adam(1e-3).init(PARAMS)
    assert size(half) < 0.51 * size(plain)
    assert set(shapes(half.inner)) == set(shapes(plain))


def test_an_offloaded_state_lives_on_the_host_between_steps_and_changes_no_number(tmp_path):
    def ran(optimizer):
        built = build(toys.experiment(optimizer=optimizer, on_nonfinite="skip"), devices=jax.devices()[:1])
        state, sums = built.fresh(), built.fresh_sums()
        for step in range(3):
            state, sums = built.step(state, sums, built.source(0)(step))
        return built, state

    (_, plain), (built, state) = ran(optax.adam(0.05)), ran(offloaded(optax.adam(0.05)))
    jax.tree.map(np.testing.assert_array_equal, plain.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, plain.opt, state.opt.on_host)
    assert {x.sharding.memory_kind for x in jax.tree.leaves(state.opt)} == {"pinned_host"}
    assert {x.sharding.memory_kind for x in jax.tree.leaves(state.params)} == {"device"}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {"step": 3})
        checkpoints.wait()
        again = checkpoints.restore(built.abstract).state
    jax.tree.map(np.testing.assert_array_equal, state, again)
    assert {x.sharding.memory_kind for x in jax.tree.leaves(again.opt)} == {"pinned_host"}
