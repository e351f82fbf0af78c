"""The shared step and its helpers, against hand-written numpy and against their own limits."""

import re
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import core
from research.core import (
    Ctx,
    Mean,
    Out,
    Rows,
    State,
    draw,
    eval_step,
    gradient,
    many,
    merge,
    overlay,
    repeat,
    train_step,
    weighted_mean,
)
from research.errors import UserError
from research.metric_sums import Total


def squares(params, ctx):
    """Least squares, with noise on the inputs drawn from the key."""
    noise = ctx.stats["scale"] * jax.random.normal(ctx.key, ctx.batch["x"].shape)
    error = ((ctx.batch["x"] + noise) @ params["w"] - ctx.batch["y"]) ** 2
    mean = weighted_mean(error, jnp.ones(len(error)))
    return mean.value(), Out({"count": ctx.stats["count"] + 1}, {"loss": mean})


def state_of(optimizer, *, scale=0.0, seed=0):
    params = {"w": np.ones(3, np.float32)}
    stats = {"scale": np.float32(scale), "count": np.int32(0)}
    return State(np.uint32(seed), np.uint32(0), np.int32(0), params, stats, optimizer.init(params))


def batches(n):
    rng = np.random.default_rng(0)
    return [
        {"x": rng.normal(size=(8, 3)).astype(np.float32), "y": rng.normal(size=8).astype(np.float32)} for _ in range(n)
    ]


def test_train_step_is_gradient_descent_by_hand():
    state, w = state_of(optax.sgd(0.1)), np.ones(3)
    step = jax.jit(train_step(gradient(squares), optax.sgd(0.1)))
    for batch in batches(5):
        state, metrics = step(state, batch)
        residual = batch["x"] @ w - batch["y"]
        assert np.isclose(metrics["loss"].value(), np.mean(residual**2), rtol=1e-5)
        w -= 0.1 * 2 / 8 * batch["x"].T @ residual
    assert np.allclose(state.params["w"], w, atol=1e-6)
    assert int(state.step) == 5 and int(state.stats["count"]) == 5


def test_noise_moves_from_step_to_step_and_repeats_with_the_step():
    step = jax.jit(train_step(gradient(squares), optax.sgd(0.0)))
    batch, state = batches(1)[0], state_of(optax.sgd(0.0), scale=1.0)
    losses = []
    for _ in range(3):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"].value()))
    assert len(set(losses)) == 3
    again = [state._replace(step=jnp.int32(i)) for i in range(3)]
    assert [float(step(s, batch)[1]["loss"].value()) for s in again] == losses
    others = [
        state._replace(step=jnp.int32(0), **change) for change in ({"seed": jnp.uint32(1)}, {"salt": jnp.uint32(1)})
    ]
    assert len({float(step(s, batch)[1]["loss"].value()) for s in others} | {losses[0]}) == 3


def test_the_optimizer_sees_the_loss_and_after_sees_old_and_new_params():
    def spy(updates, state, params=None, *, value, **_):
        return updates, value

    def follow(state, params):
        # What the loss changed is there already: the count is 1.
        return {"scale": jnp.sum(params["w"] - state.params["w"]) * (state.stats["count"] == 1)}

    optimizer = optax.chain(optax.sgd(0.1), optax.GradientTransformationExtraArgs(lambda params: jnp.float32(0), spy))
    batch, state = batches(1)[0], state_of(optimizer)
    new, metrics = jax.device_get(jax.jit(train_step(gradient(squares), optimizer, (follow,)))(state, batch))
    assert float(new.opt[1]) == float(metrics["loss"].value())
    assert np.isclose(new.stats["scale"], np.sum(new.params["w"]) - 3, rtol=1e-4) and float(new.stats["scale"]) != 0


def test_many_equals_as_many_calls():
    three = batches(3)
    step = train_step(gradient(squares), optax.adam(0.1))
    state, total = state_of(optax.adam(0.1), scale=0.3), Mean(0.0, 0.0)
    for batch in three:
        state, metrics = jax.jit(step)(state, batch)
        total = merge(total, metrics["loss"])
    stacked = jax.tree.map(lambda *x: np.stack(x), *three)
    at_once, metrics = jax.jit(many(step, 3))(state_of(optax.adam(0.1), scale=0.3), stacked)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), at_once, state)
    assert np.isclose(metrics["loss"].value(), total.value(), rtol=1e-6)


def test_repeat_unrolls_convolutions_on_cpu_and_nothing_else():
    kernel = jnp.ones((3, 3, 1, 1))

    def convolve(x, _):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")), 0

    def multiply(x, _):
        return x @ jnp.ones((4, 4)), 0

    def loops(body, x):
        return "while" in jax.jit(lambda x: repeat(body, x, length=3)[0]).lower(x).compile().as_text()

    assert not loops(convolve, jnp.ones((1, 4, 4, 1)))
    assert loops(multiply, jnp.ones((4, 4)))


def test_draw_names_places():
    keys = [draw(0), draw(1), draw(0, "a"), draw(0, "b"), draw(0, "a", 1), draw(0, 1, "a"), draw(draw(0, "a"), 2)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)
    vector = draw(0, "a", jnp.arange(4))
    assert vector.shape == (4,)
    # position by position, so that a batch split differently draws the same
    assert jnp.all(jax.random.key_data(vector[2]) == jax.random.key_data(draw(0, "a", 2)))


def test_weighted_mean_is_numpys_and_leaves_padding_out():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(5, 4)).astype(np.float32), np.array([1, 0, 2, 0.5, 0], np.float32)
    poisoned = values.copy()
    poisoned[1], poisoned[4] = np.nan, np.inf
    weighted_mean = jax.jit(core.weighted_mean)
    mean = weighted_mean({"x": poisoned}, weights)
    np.testing.assert_allclose(mean.value()["x"], np.average(values, axis=0, weights=weights), rtol=1e-6)
    whole = weighted_mean(values, np.broadcast_to(weights[:, None], (5, 4)))
    np.testing.assert_allclose(
        whole.value(), np.average(values, weights=np.repeat(weights, 4).reshape(5, 4)), rtol=1e-6
    )
    assert float(weighted_mean(poisoned[:, 0], np.zeros(5)).value()) == 0
    halves = merge(weighted_mean(values[:2], weights[:2]), weighted_mean(values[2:], weights[2:]))
    np.testing.assert_allclose(halves.value(), weighted_mean(values, weights).value(), rtol=1e-6)
    grad = jax.jit(jax.grad(lambda v: weighted_mean(jnp.log(v), np.array([1.0, 0.0])).value()))(np.float32([2, -1]))
    assert np.isfinite(grad).all()


def test_overlay_changes_entries_and_names_what_is_not_there():
    stats = {"model": {"mean": 1, "var": 2}, "queue": 3}
    assert overlay(stats, {"model": {"var": 5}}) == {"model": {"mean": 1, "var": 5}, "queue": 3}
    assert stats["model"]["var"] == 2
    with pytest.raises(UserError, match="'queu'.*Did you mean 'queue'"):
        overlay(stats, {"queu": 1})


def test_eval_step_adds_states_and_hands_out_rows():
    def measure(trained, batch):
        y = trained(batch["x"])
        return {"mean": weighted_mean(y, batch["mask"]), "rows": Rows({"y": y}, batch["mask"])}

    step = jax.jit(eval_step(lambda params, stats, x, train: (x * params, {}), measure))
    total = Total.zero({"mean": Mean(jnp.float32(0), jnp.float32(0))})
    for x, mask in (([1.0, 2.0], [1.0, 1.0]), ([6.0, 99.0], [1.0, 0.0])):
        total, rows = step(2.0, {}, total, {"x": jnp.array(x), "mask": jnp.array(mask)})
    assert float(total.sum["mean"].value()) == 6.0
    assert rows["rows"].values["y"].tolist() == [12.0, 198.0]


def test_seeds_are_data_and_can_be_vmapped():
    step = train_step(gradient(squares), optax.sgd(0.1))
    batch = batches(1)[0]
    states = [state_of(optax.sgd(0.1), scale=1.0, seed=seed) for seed in range(3)]
    jitted = jax.jit(step)
    alone = [jitted(state, batch)[0].params["w"] for state in states]
    assert jitted._cache_size() == 1
    together = jax.jit(jax.vmap(step, (0, None)))(jax.tree.map(lambda *x: np.stack(x), *states), batch)[0].params["w"]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5)
    assert len({tuple(np.asarray(w).tolist()) for w in alone}) == 3


def test_a_loss_reads_nothing_but_its_context():
    params, batch = {"w": jnp.ones(3)}, batches(1)[0]
    ctx = Ctx(batch, {"scale": jnp.float32(1), "count": jnp.int32(0)}, draw(0), jnp.int32(0))
    assert float(squares(params, ctx)[0]) == float(squares(params, ctx)[0])


def test_the_names_of_this_library_draw_different_keys():
    text = "".join(path.read_text() for path in Path(core.__file__).parent.rglob("*.py"))
    names = set(re.findall(r'"([^"\n]+)"', text))
    assert "augment" in names and len({zlib.crc32(name.encode()) for name in names}) == len(names)
