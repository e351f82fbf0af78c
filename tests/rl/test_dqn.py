"""The Q-learning error against its formula by hand, and a table that learns the values of dynamic programming."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, Model
from research.errors import UserError
from research.experiment import Experiment, build
from research.optim.target import target
from research.rl.acting import acting, environment_ids, episodes
from research.rl.dqn import dqn
from research.rl.dynamic_programming import value_iteration
from research.rl.environment import time_limit
from research.rl.grid_world import grid_world, tables
from research.rl.policies import epsilon_greedy
from research.rl.replay import replay

RNG = np.random.default_rng(0)
B, A = 16, 3
W, OLD = (RNG.normal(size=(4, A)).astype(np.float32) for _ in range(2))
BATCH = {
    "observation": RNG.normal(size=(B, 4)).astype(np.float32),
    "next_observation": RNG.normal(size=(B, 4)).astype(np.float32),
    "action": RNG.integers(A, size=B),
    "reward": RNG.normal(size=B).astype(np.float32),
    "terminated": RNG.random(B) < 0.3,
}


def apply(params, stats, x, key=None, train=False):
    return x @ params, {}


def ctx(batch, stats=None):
    return Ctx(batch, {"target": OLD} if stats is None else stats, jax.random.key(0), jnp.int32(0))


def test_the_slope_of_a_large_error_is_delta():
    batch = {name: x[:1] for name, x in BATCH.items()}
    batch["reward"] = np.array([1e5], np.float32)
    grads = jax.grad(lambda params: dqn(apply, discount=0.0, delta=0.3)(params, ctx(batch))[0])(W)
    np.testing.assert_allclose(grads[:, batch["action"][0]], -0.3 * batch["observation"][0], rtol=1e-6)


@pytest.mark.parametrize("double", [False, True])
def test_the_loss_and_its_gradient_by_hand(double):
    descend = jax.jit(jax.value_and_grad(dqn(apply, discount=0.9, double=double), has_aux=True))
    (value, out), grads = descend(W, ctx(BATCH))
    losses, slopes, chosen, differ = [], np.zeros_like(W), [], 0
    for i in range(B):
        later, now = BATCH["next_observation"][i] @ OLD, BATCH["next_observation"][i] @ W
        differ += later.argmax() != now.argmax()
        best = now.argmax() if double else later.argmax()
        y = BATCH["reward"][i] + (0 if BATCH["terminated"][i] else 0.9 * later[best])
        x, a = BATCH["observation"][i], BATCH["action"][i]
        error = x @ W[:, a] - y
        losses.append(0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5)
        slopes[:, a] += np.clip(error, -1, 1) * x / B
        chosen.append(x @ W[:, a])
    assert differ and BATCH["terminated"].any()
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(grads, slopes, atol=1e-5)
    np.testing.assert_allclose(out.metrics["value"].value(), np.mean(chosen), rtol=1e-5)
    masked = {**BATCH, "mask": np.arange(B) < 5}
    (found, _), _ = descend(W, ctx(masked))
    np.testing.assert_allclose(found, np.mean(losses[:5]), rtol=1e-5)
    _, nothing = descend(W, ctx({**BATCH, "mask": np.arange(B) < 0}))
    assert not np.asarray(nothing).any()


def test_a_missing_target_or_field_is_an_error():
    loss = dqn(apply, discount=0.9)
    with pytest.raises(UserError, match="unknown stats entry for the target network 'target'. Did you mean 'targets'"):
        loss(W, ctx(BATCH, {"targets": OLD}))
    with pytest.raises(UserError, match="unknown batch field 'reward'"):
        loss(W, ctx({name: x for name, x in BATCH.items() if name != "reward"}))


GRID = ("SSH", "S#S", "SSG")
RULES = {"hole": -1.0, "cost": 0.05}
FREE = tables(GRID, **RULES).reachable


def learned(limit, discount=0.9):
    """The table after 3,000 updates of Q-learning from random play, in episodes of at most `limit` steps."""
    world = time_limit(grid_world(GRID, **RULES), limit)
    model = Model(lambda key: (jnp.zeros((9, 4)), {}), apply)
    memory, lagging = replay(world, capacity=1024, size=64, updates=1), target(every=10)
    policy = epsilon_greedy(model, epsilon=lambda step: 1.0)
    experiment = Experiment(
        init=model.init, apply=model.apply, loss=dqn(model, discount=discount), optimizer=optax.sgd(8.0),
        source=environment_ids(16), steps=3000, stride=3000, log_every=3000, save_every=3000,
        techniques=(episodes(world, 16), memory, lagging),
        transform=lambda step: acting(step, world, policy=policy, batches=memory.use, length=1, updates=1),
    )  # fmt: skip
    built = build(experiment, devices=jax.devices()[:1])
    state, _ = built.step(built.fresh(), built.fresh_sums(), built.source(0)(0))
    return np.asarray(state.params)


@pytest.mark.parametrize("limit", [100, 2])
def test_a_table_learns_the_values_of_dynamic_programming(limit):
    """Also in episodes cut after two steps: a value that did not bootstrap there would see no further."""
    exact = tables(GRID, **RULES)
    values = value_iteration(exact.probabilities, exact.rewards, discount=0.9).action
    assert values[FREE].min() < -0.9 and values[FREE].max() == 1
    np.testing.assert_allclose(learned(limit)[FREE], values[FREE], atol=1e-3)
