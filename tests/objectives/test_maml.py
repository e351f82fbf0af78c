"""On quadratic losses an adapted weight and its gradients have closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx, Mean, Out, Trained, gradient, weighted_mean
from research.errors import UserError
from research.metrics.adaptation import measure_adaptation
from research.objectives.classify import classify
from research.objectives.maml import adapted, maml

CURVATURE, RATE = 3.0, 0.1
S, Q = np.float32([[1.0], [-2.0]]), np.float32([[2.0, 4.0], [-1.0, -3.0]])  # two tasks: one shot, two queries
BATCH = {"support_x": S, "query_x": Q}


def quadratic(params, ctx):
    mean = weighted_mean(0.5 * CURVATURE * (params - ctx.batch["x"]) ** 2, jnp.ones(len(ctx.batch["x"])))
    return mean.value(), Out({}, {"loss": mean})


def ctx(batch, key=0, stats=None):
    return Ctx(batch, stats or {}, jax.random.key(key), jnp.int32(0))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradient_of_both_orders(steps):
    shrink = (1 - RATE * CURVATURE) ** steps
    fast = S[:, 0] + shrink * (0.5 - S[:, 0])
    expected_loss = np.mean(0.5 * CURVATURE * (fast[:, None] - Q) ** 2)
    slope = np.mean(CURVATURE * (fast[:, None] - Q))
    both = [maml(quadratic, learning_rate=RATE, steps=steps, first_order=which) for which in (False, True)]
    (grad, out), (first, _) = jax.jit(lambda w: [gradient(loss)(w, ctx(BATCH)) for loss in both])(np.float32(0.5))
    np.testing.assert_allclose(out.metrics["loss"].value(), expected_loss, rtol=1e-6)
    np.testing.assert_allclose(grad, shrink * slope, rtol=1e-5)
    np.testing.assert_allclose(first, slope, rtol=1e-5)
    np.testing.assert_allclose(
        out.metrics["support_loss"].value(), np.mean(0.5 * CURVATURE * (0.5 - S) ** 2), rtol=1e-6
    )


def test_without_a_learning_rate_it_is_the_loss_of_all_queries():
    rng = np.random.default_rng(0)
    model = lambda params, stats, x, *, key=None, train=False: (x @ params, {})
    batch = {
        "support_image": rng.normal(size=(3, 4, 5)), "support_label": rng.integers(2, size=(3, 4)),
        "query_image": rng.normal(size=(3, 6, 5)), "query_label": rng.integers(2, size=(3, 6)),
        "support_mask": np.ones((3, 4)), "query_mask": rng.integers(2, size=(3, 6)),
    }  # fmt: skip
    batch = jax.tree.map(lambda x: x.astype(np.float32 if x.dtype == float else np.int32), batch)
    params = rng.normal(size=(5, 2)).astype(np.float32)
    flat = {k.removeprefix("query_"): x.reshape(-1, *x.shape[2:]) for k, x in batch.items() if k.startswith("query_")}
    (plain, expected), (grads, out) = jax.jit(
        lambda: (
            gradient(classify(model))(params, ctx(flat)),
            gradient(maml(classify(model), learning_rate=0.0))(params, ctx(batch)),
        )
    )()
    np.testing.assert_allclose(grads, plain, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.metrics["loss"].value(), expected.metrics["loss"].value(), rtol=1e-6)
    assert out.metrics["loss"].weight == expected.metrics["loss"].weight


def test_tasks_and_steps_have_keys_of_their_own_and_changed_stats_are_averaged():
    def noisy(params, ctx):
        number = jax.random.normal(ctx.key)
        mean = Mean(params * number, jnp.float32(1))
        return mean.value(), Out({"seen": number}, {"loss": mean})

    loss = maml(noisy, learning_rate=1.0, steps=2)
    (value, out), (other, _) = (
        jax.jit(loss)(np.float32(0), ctx(BATCH, key=key, stats={"seen": np.float32(0)})) for key in (0, 1)
    )
    assert value != other and out.stats["seen"].shape == ()
    once, twice = jax.jit(
        lambda ctx: [adapted(noisy, np.float32(0), ctx, learning_rate=1.0, steps=steps)[0] for steps in (1, 2)]
    )(ctx({}))
    assert once != twice and not np.isclose(twice, 2 * once)

    def counting(params, ctx):
        return params, Out({"seen": ctx.stats["seen"] + 1}, {"loss": Mean(params, jnp.float32(1))})

    with pytest.raises(UserError, match="int32 cannot be averaged over tasks"):
        maml(counting, learning_rate=1.0)(jnp.float32(0), ctx(BATCH, stats={"seen": jnp.int32(0)}))


def test_a_batch_without_tasks_is_told():
    with pytest.raises(UserError, match="no field support_...; it has image"):
        maml(quadratic, learning_rate=1.0)(jnp.float32(0), ctx({"image": S}))


def test_adaptation_is_measured_after_and_before():
    model = lambda params, stats, x, *, key=None, train=False: (x @ params["w"], {})
    support = np.eye(3, dtype=np.float32)[None].repeat(2, 0)
    batch = {
        "support_image": support, "support_label": np.tile(np.arange(3), (2, 1)),
        "query_image": support[:, ::-1], "query_label": np.tile([2, 1, 0], (2, 1)),
    }  # fmt: skip
    measure = measure_adaptation(
        classify(model), model, learning_rate=1.0, steps=5, begin=lambda params: {"w": 0 * params["w"]}
    )
    start = {"w": np.ones((3, 3), np.float32)}
    found = jax.jit(measure)(Trained(model, start, {}), {**batch, "mask": np.float32([1, 0])})
    assert found["accuracy"].value() == 1 and found["accuracy"].weight == 1
    np.testing.assert_allclose(found["accuracy_before"].value(), 1 / 3, rtol=1e-6)
