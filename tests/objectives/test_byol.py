import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, State, check_additive, gradient, train_step
from research.errors import UserError
from research.objectives.byol import byol, momentum_schedule

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5)).astype(np.float32)
W, P, TARGET = (RNG.normal(size=shape).astype(np.float32) for shape in ((5, 3), (3, 3), (5, 3)))
PARAMS = {"online": {"w": W}, "predictor": {"w": P}}


def linear(params, stats, x, *, key=None, train=False):
    """Embeddings; stats show the views that came."""
    assert train
    return x @ params["w"], {"views": x}


def predict(params, stats, x, *, key=None, train=False):
    return x @ params["w"], {}


def noisy(key, batch):
    return {**batch, "image": batch["image"] + 0.5 * jax.random.normal(key, batch["image"].shape)}


def ctx(batch=None, key=0, target=TARGET):
    stats = {"byol": {"w": target}}
    return Ctx(batch or {"image": X}, stats, jax.random.key(key), jnp.int32(0))


LOSS = byol(linear, predict, view=noisy).loss
run = jax.jit(jax.value_and_grad(LOSS, has_aux=True))


def views_of(out):
    return np.split(np.asarray(out.stats["views"]), 2)


def closed(params, first, second, target):
    """2 - 2 cos(q(v), z(w)) + 2 - 2 cos(q(w), z(v)), for each example."""
    cos = lambda a, b: jnp.sum(a * b, -1) / jnp.linalg.norm(a, axis=-1) / jnp.linalg.norm(b, axis=-1)
    q = lambda x: x @ params["online"]["w"] @ params["predictor"]["w"]
    return 4 - 2 * cos(q(first), second @ target) - 2 * cos(q(second), first @ target)


def test_the_loss_is_symmetric_and_of_normalised_vectors():
    (value, out), _ = run(PARAMS, ctx())
    expected = closed(PARAMS, *views_of(out), TARGET)
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
    assert out.metrics["loss"].weight == 4
    check_additive(out.metrics, by="accumulate")


def test_padding_counts_in_nothing():
    batch = {"image": X, "mask": np.array([1, 0, 1, 1])}
    (_, out), _ = run(PARAMS, ctx(batch))
    expected = closed(PARAMS, *views_of(out), TARGET)[np.array([0, 2, 3])].mean()
    poisoned = {**batch, "image": np.where(batch["mask"][:, None], X, np.nan)}
    for given in (batch, poisoned):
        (value, out), _ = run(PARAMS, ctx(given))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert out.metrics["loss"].weight == 3


def test_no_gradient_flows_through_the_target_even_where_it_is_the_online_network():
    (_, out), grads = run(PARAMS, ctx(target=W))
    first, second = views_of(out)
    mean = lambda params, target: closed(params, first, second, target).mean()
    expected = jax.jit(jax.grad(mean))(PARAMS, W)
    through = jax.jit(jax.grad(lambda params: mean(params, params["online"]["w"])))(PARAMS)
    for name in PARAMS:
        np.testing.assert_allclose(grads[name]["w"], expected[name]["w"], rtol=1e-4, atol=1e-6)
    assert np.abs(np.asarray(through["online"]["w"] - expected["online"]["w"])).max() > 0.01


def test_the_target_follows_by_equation_1_with_a_number_or_a_schedule():
    schedule = momentum_schedule(0.6, steps=4)
    np.testing.assert_allclose([schedule(step) for step in (0, 2, 4, 9)], [0.6, 0.8, 1, 1], rtol=1e-6)
    for momentum, rates in ((0.9, [0.9] * 3), (schedule, [schedule(step) for step in range(3)])):
        method = byol(linear, predict, view=noisy, momentum=momentum)
        entries = {"byol": method.memory(jax.random.key(0), PARAMS)}
        np.testing.assert_array_equal(entries["byol"]["w"], W)
        step = jax.jit(train_step(gradient(method.loss), optax.sgd(0.1), (method.after,)))
        stats = {"views": jnp.zeros((8, 5)), **entries}
        state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), PARAMS, stats, optax.sgd(0.1).init(PARAMS))
        expected = np.asarray(W, np.float64)
        for rate in rates:
            state, _ = step(state, {"image": X})
            expected = float(rate) * expected + (1 - float(rate)) * np.asarray(state.params["online"]["w"], np.float64)
            np.testing.assert_allclose(state.stats["byol"]["w"], expected, rtol=1e-5)
        params, _ = method.view(state)
        np.testing.assert_array_equal(params["online"]["w"], state.stats["byol"]["w"])
        np.testing.assert_array_equal(params["predictor"]["w"], state.params["predictor"]["w"])
    now = byol(linear, predict, view=noisy, momentum=0.0).after(state, state.params)
    np.testing.assert_array_equal(now["byol"]["w"], state.params["online"]["w"])


def test_views_change_with_the_key_and_the_field_must_be_there():
    views = [view for key in (0, 1) for view in views_of(run(PARAMS, ctx(key=key))[0][1])]
    assert all((a != b).all() for i, a in enumerate(views) for b in views[:i])
    with pytest.raises(UserError, match="unknown batch field 'image'"):
        byol(linear, predict, view=lambda key, batch: batch).loss(PARAMS, ctx({"picture": X}))
