"""The clipped surrogate against its formula, in its limit (A2C), and split; the minibatches of a rollout."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, State, gradient, many, train_step
from research.errors import UserError
from research.rl.acting import Trajectory
from research.rl.advantages import generalized_advantages
from research.rl.ppo import minibatches, ppo

RNG = np.random.default_rng(0)
B, A = 24, 3


def apply(params, stats, x, key=None, train=False):
    """A linear actor-critic that also counts how often it was trained."""
    return (x @ params["actor"], x @ params["critic"]), {"seen": stats["seen"] + train}


PARAMS = {"actor": RNG.normal(size=(4, A)).astype(np.float32), "critic": RNG.normal(size=4).astype(np.float32)}
BATCH = {
    "observation": RNG.normal(size=(B, 4)).astype(np.float32),
    "action": RNG.integers(A, size=B),
    "advantage": RNG.normal(size=B).astype(np.float32),
    "target": RNG.normal(size=B).astype(np.float32),
}


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


PROBABILITIES = softmax(BATCH["observation"] @ PARAMS["actor"])
NOW = np.log(PROBABILITIES[np.arange(B), BATCH["action"]])
THEN = (NOW + RNG.normal(size=B) * 0.3).astype(np.float32)


def ctx(batch):
    return Ctx(batch, {"seen": jnp.int32(4)}, jax.random.key(0), jnp.int32(0))


def test_the_loss_is_equations_7_and_9():
    loss = jax.jit(ppo(apply, clip=0.2, value_weight=0.7, entropy_weight=0.03))
    value, out = loss(PARAMS, ctx({**BATCH, "log_prob": THEN}))
    terms, clipped = [], []
    for i in range(B):
        ratio, advantage = np.exp(NOW[i] - THEN[i]), BATCH["advantage"][i]
        surrogate = min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
        error = (BATCH["observation"][i] @ PARAMS["critic"] - BATCH["target"][i]) ** 2
        entropy = -sum(p * np.log(p) for p in PROBABILITIES[i])
        terms.append(-surrogate + 0.7 * error - 0.03 * entropy)
        clipped.append(not 0.8 <= ratio <= 1.2)
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(out.metrics["clipped"].value(), np.mean(clipped), rtol=1e-6)
    assert 0.1 < np.mean(clipped) < 0.9 and out.stats["seen"] == 5
    np.testing.assert_allclose(out.metrics["loss"].value(), value, rtol=1e-6)
    ratios = np.exp(NOW - THEN)
    np.testing.assert_allclose(out.metrics["kl"].value(), np.mean(ratios - 1 - np.log(ratios)), rtol=1e-4)
    masked = {**BATCH, "log_prob": THEN, "mask": np.arange(B) < 10}
    masked["advantage"] = np.where(masked["mask"], BATCH["advantage"], np.nan)
    np.testing.assert_allclose(loss(PARAMS, ctx(masked))[0], np.mean(terms[:10]), rtol=1e-5)


def test_the_clip_stops_the_gradient_only_where_it_would_go_further():
    """One example each: the policy has gone too far up or down, with an advantage of either sign."""
    loss = ppo(apply, value_weight=0.0)
    for ratio, advantage, moves in ((1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False)):
        one = {name: jnp.asarray(x[:1]) for name, x in BATCH.items()}
        one |= {"advantage": jnp.array([advantage]), "log_prob": jnp.asarray(NOW[:1] - np.log(ratio), jnp.float32)}
        grads, _ = gradient(loss)(PARAMS, ctx(one))
        assert bool(jnp.any(grads["actor"] != 0)) == moves


def test_at_a_ratio_of_one_it_is_the_policy_gradient():
    """A softmax bandit: the gradient of the logits is the mean of A (pi - onehot(a)), in closed form; so A2C's."""

    def bandit(params, stats, x, key=None, train=False):
        return (jnp.broadcast_to(params, (len(x), A)), jnp.zeros(len(x))), stats

    logits = RNG.normal(size=A).astype(np.float32)
    pi = softmax(logits)
    log_prob = np.log(pi)[BATCH["action"]].astype(np.float32)
    grads, out = gradient(ppo(bandit))(jnp.asarray(logits), ctx({**BATCH, "log_prob": log_prob}))
    expected = np.mean(BATCH["advantage"][:, None] * (pi - np.eye(A)[BATCH["action"]]), 0)
    np.testing.assert_allclose(grads, expected, atol=1e-6)
    assert out.metrics["clipped"].value() == 0 and abs(out.metrics["kl"].value()) < 1e-6


def test_many_is_so_many_single_steps():
    """The composition that a dispatch is made of: k minibatches at once, and one after the other."""
    optimizer = optax.adam(1e-2)
    step = train_step(gradient(ppo(apply, entropy_weight=0.01)), optimizer)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), params, {"seen": jnp.int32(0)}, optimizer.init(params))
    rows = {**BATCH, "log_prob": THEN}
    parts = jax.tree.map(lambda x: jnp.asarray(x).reshape(4, 6, *x.shape[1:]), rows)
    together, metrics = jax.jit(many(step, 4))(state, parts)
    one, sums = jax.jit(step), []
    for i in range(4):
        state, found = one(state, {name: x[i] for name, x in parts.items()})
        sums.append(found["loss"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), together, state)
    np.testing.assert_allclose(metrics["loss"].sum, sum(mean.sum for mean in sums), rtol=1e-5)
    assert together.stats["seen"] == 4 and metrics["loss"].weight == B


def trajectory(length=5, count=4):
    shape = (length, count)
    # The first number of an observation names its transition.
    observation = np.concatenate([np.arange(20.0).reshape(5, 4, 1), RNG.normal(size=(5, 4, 3))], -1)
    return Trajectory(
        observation.astype(np.float32), RNG.integers(A, size=shape), RNG.normal(size=shape).astype(np.float32),
        RNG.random(shape) < 0.2, RNG.random(shape) < 0.2, RNG.normal(size=(*shape, 4)).astype(np.float32),
        {"value": RNG.normal(size=shape).astype(np.float32), "log_prob": RNG.normal(size=shape).astype(np.float32)},
    )  # fmt: skip


def test_minibatches_hold_every_transition_once_an_epoch_with_what_belongs_to_it():
    played = trajectory()
    state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), PARAMS, {"seen": jnp.int32(0)}, None)
    batches = jax.jit(lambda key: minibatches(apply, discount=0.9, gae_lambda=0.8, epochs=3, num_minibatches=4)(
        state, jax.tree.map(jnp.asarray, played), key=key,
    ))  # fmt: skip
    changed, rows = batches(jax.random.key(0))
    assert changed == {} and rows["observation"].shape == (12, 5, 4)
    names = np.asarray(rows["observation"][..., 0]).astype(int).reshape(3, 20)
    np.testing.assert_array_equal(np.sort(names, -1), np.tile(np.arange(20), (3, 1)))
    assert len({tuple(order) for order in names}) == 3
    advantages = np.asarray(generalized_advantages(
        played.reward, played.notes["value"], played.next_observation @ PARAMS["critic"],
        terminated=played.terminated, truncated=played.truncated, discount=0.9, gae_lambda=0.8,
    ))  # fmt: skip
    expected = {
        "action": played.action,
        "log_prob": played.notes["log_prob"],
        "target": advantages + played.notes["value"],
        "advantage": (advantages - advantages.mean()) / advantages.std(),
    }
    for name, x in expected.items():
        np.testing.assert_allclose(np.asarray(rows[name]).reshape(3, 20), x.ravel()[names], rtol=1e-4, atol=1e-5)
    other = batches(jax.random.key(1)).batches["observation"]
    assert not np.array_equal(other, rows["observation"])


def test_a_missing_field_is_an_error():
    with pytest.raises(UserError, match="unknown batch field 'log_prob'"):
        ppo(apply)(PARAMS, ctx(BATCH))


def test_an_impossible_action_leaves_the_loss_and_its_gradient_finite():
    def masked(params, stats, x, key=None, train=False):
        (logits, values), stats = apply(params, stats, x)
        return (jnp.where(jnp.arange(A) == 2, -jnp.inf, logits), values), stats

    batch = {**BATCH, "action": BATCH["action"] % 2, "log_prob": THEN}
    loss = jax.jit(jax.value_and_grad(ppo(masked), has_aux=True))
    (_, out), grads = loss(PARAMS, ctx(batch))
    p = softmax((BATCH["observation"] @ PARAMS["actor"])[:, :2])
    np.testing.assert_allclose(out.metrics["entropy"].value(), -np.sum(p * np.log(p), -1).mean(), rtol=1e-5)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
