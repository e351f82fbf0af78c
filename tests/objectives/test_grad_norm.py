"""GradNorm against the paper's equations, differentiated by brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx, NotAdditive, draw, gradient
from research.errors import UserError
from research.objectives.grad_norm import balanced, grad_norm
from research.objectives.multi_task import fixed, multi_task
from tests.objectives.test_multi_task import BATCH, TASKS, X

RNG = np.random.default_rng(1)
W = {
    "trunk": RNG.normal(size=(4, 5)).astype(np.float32),
    "kind": RNG.normal(size=(5, 3)).astype(np.float32),
    "extent": (RNG.normal(size=(5, 1)) * 3).astype(np.float32),
}


def apply(params, stats, x, *, key=None, train=False):
    features = jnp.tanh(x @ params["trunk"])
    return {name: features @ params[name] for name in TASKS}, {"seen": stats["seen"] + train}


def weighted(weigh):
    return multi_task(apply, TASKS, weigh=weigh)


BALANCE = grad_norm(weighted, TASKS, shared="trunk", alpha=1.5, learning_rate=0.2)


def ctx(weights, first):
    entry = {"weights": jax.tree.map(np.float32, weights), "first": jax.tree.map(np.float32, first)}
    return Ctx(BATCH, {"seen": np.int32(0), "grad_norm": entry}, draw(0), np.int32(3))


def test_the_weights_follow_the_gradient_of_equation_2():
    weights, first = {"kind": 1.5, "extent": 0.5}, {"kind": 1.2, "extent": 0.4}
    where = ctx(weights, first)
    grads, out = jax.device_get(jax.jit(BALANCE.grad_fn)(W, where))

    def parts(trunk):
        """What each task adds to the loss: its sum over the labels there are, over the number of examples."""
        _, out = weighted(fixed(dict.fromkeys(TASKS, 1.0)))({**W, "trunk": trunk}, where)
        return {name: out.metrics[f"{name}_loss"].sum / len(X) for name in TASKS}

    metrics = out.metrics
    progress = np.array([metrics[f"{name}_loss"].value() / first[name] for name in TASKS])
    relative = progress / progress.mean()
    slopes = jax.jit(jax.jacrev(parts))(W["trunk"])

    def objective(w):
        norms = jnp.stack([jnp.linalg.norm(w[i] * slopes[name]) for i, name in enumerate(TASKS)])
        return jnp.sum(jnp.abs(norms - jax.lax.stop_gradient(norms.mean()) * relative**1.5))

    old = np.array([weights[name] for name in TASKS])
    moved = old - 0.2 * np.asarray(jax.jit(jax.grad(objective))(np.float32(old)))
    expected = moved * 2 / moved.sum()
    found = [out.stats["grad_norm"]["weights"][name] for name in TASKS]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert not np.allclose(found, old, rtol=1e-2)
    # The params still move with the weights from before, and the first losses stay.
    plain, _ = jax.jit(gradient(weighted(fixed(weights))))(W, where)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), grads, plain)
    np.testing.assert_allclose([out.stats["grad_norm"]["first"][name] for name in TASKS], list(first.values()))
    assert out.stats["seen"] == 1 and isinstance(out.metrics["loss"], NotAdditive)


def test_the_first_losses_are_kept_and_without_a_rate_it_is_the_plain_gradient():
    still = grad_norm(weighted, TASKS, shared="trunk", learning_rate=0.0)
    start = still.memory(None, W)
    assert start["weights"] == {"kind": 1, "extent": 1}
    where = ctx(**start)
    (grads, out), (plain, _) = jax.device_get(
        jax.jit(lambda *given: (still.grad_fn(*given), gradient(BALANCE.loss)(*given)))(W, where)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), grads, plain)
    entry = out.stats["grad_norm"]
    assert entry["weights"] == {"kind": 1, "extent": 1}
    for name in TASKS:
        np.testing.assert_allclose(entry["first"][name], out.metrics[f"{name}_loss"].value())


def test_weights_stay_above_0_and_sum_to_the_number_of_tasks():
    one = np.ones(3, np.float32)
    found, lagging = jax.jit(
        lambda: (
            balanced(one, jnp.array([1.0, 10.0, 1.0]), one, alpha=1.0, rate=1.0),
            balanced(one[:2], one[:2], jnp.array([0.9, 0.3]), alpha=1.5, rate=0.1),
        )
    )()
    np.testing.assert_allclose(found, [1.5, 0.0, 1.5], rtol=1e-6)
    # A task that lags (its loss fell less) gains weight.
    assert lagging[0] > 1 > lagging[1]


def test_wrong_names_are_errors():
    where = ctx({"kind": 1.0, "extent": 1.0}, {"kind": 1.0, "extent": 1.0})
    with pytest.raises(UserError, match="trunck"):
        grad_norm(weighted, TASKS, shared="trunck").grad_fn(W, where)
    with pytest.raises(UserError, match="Did you mean 'kind_loss'"):
        grad_norm(weighted, ["kinds"], shared="trunk").grad_fn(W, where)
