"""Half precision around a model, and the loss scale: their limits, their types, and what an overflow may not touch."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, Mean, Model, Out, State, gradient, train_step
from research.gradients.loss_scale import loss_scaled
from research.model import from_nnx
from research.models.cnn import CNN
from research.models.gpt import GPT
from research.models.lstm import LSTM
from research.models.mlp import MLP
from research.models.resnet import ConvNorm, ResNet
from research.models.vit import ViT
from research.objectives.classify import classify
from research.tree import cast
from research.wrappers.mixed_precision import mixed_precision
from tests.gradients import toy

OPTIMIZER = optax.adam(0.01)


def begun(optimizer, technique=None):
    entry = {technique.name: technique.memory(toy.KEY, toy.PARAMS)} if technique else {}
    stats = {**toy.STATS, **entry}
    return State(jnp.uint32(5), jnp.uint32(0), jnp.int32(0), toy.PARAMS, stats, optimizer.init(toy.PARAMS))


def ran(grad_fn, optimizer, technique=None, steps=3):
    step, state = jax.jit(train_step(grad_fn, optimizer)), jax.device_get(begun(optimizer, technique))
    for _ in range(steps):
        state, metrics = jax.device_get(step(state, toy.BATCH))
    return state, metrics


def test_the_layers_compute_in_the_type_and_everything_outside_stays_in_f32():
    seen = []

    def apply(params, stats, x, number, *, key=None, train=False):
        seen.append((params["w"].dtype, x.dtype, number.dtype, stats["mean"].dtype))
        return x @ params["w"], {"mean": stats["mean"] + 1}

    model = mixed_precision(Model(None, apply))
    params, stats = {"w": np.full((3, 2), 1 / 3, np.float32), "n": np.int32(2)}, {"mean": np.zeros(2, np.float32)}

    def total(params):
        outputs, changed = model.apply(params, stats, np.ones((4, 3), np.float32), np.arange(4, dtype=np.int32))
        return outputs.sum(), (outputs, changed)

    grads, (outputs, changed) = jax.jit(jax.grad(total, has_aux=True, allow_int=True))(params)
    assert seen == [(jnp.bfloat16, jnp.bfloat16, jnp.int32, jnp.float32)]
    assert outputs.dtype == jnp.float32 and changed["mean"].dtype == jnp.float32
    assert grads["w"].dtype == jnp.float32
    assert cast({"n": np.int32(1), "x": 1.5}, jnp.float16)["x"].dtype == jnp.float16


def test_in_f32_it_is_the_model_and_in_bf16_it_is_near():
    model = from_nnx(lambda rngs: MLP((6, 6, 1), hidden=(16,), num_classes=4, rngs=rngs))
    params, stats = jax.jit(model.init)(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype(np.float32)
    plain, same, near = (
        np.asarray(jax.jit(m.apply)(params, stats, x)[0])
        for m in (model, mixed_precision(model, jnp.float32), mixed_precision(model))
    )
    np.testing.assert_array_equal(plain, same)
    assert 1e-5 < np.abs(plain - near).max() < 0.02 * (np.abs(plain).max() + 1)


def test_batch_statistics_keep_their_type_and_nearly_their_values():
    model = from_nnx(lambda rngs: ConvNorm(2, 4, size=3, group_size=None, rngs=rngs))
    x = np.random.default_rng(0).normal(3, size=(8, 5, 5, 2)).astype(np.float32)

    @jax.jit
    def changed(key):
        params, stats = model.init(key)
        return [m.apply(params, stats, x, train=True)[1] for m in (model, mixed_precision(model))]

    plain, half = changed(jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02), plain, half)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half))


MODELS = {
    "vit": (lambda rngs: ViT(size=8, patch=4, width=8, depth=1, heads=2, num_classes=3, rngs=rngs), (2, 8, 8, 3)),
    "gpt": (lambda rngs: GPT(vocabulary=7, length=4, width=8, depth=1, heads=2, rngs=rngs), (2, 4)),
    "lstm": (lambda rngs: LSTM(vocabulary=7, width=4, rngs=rngs), (2, 4)),
    "resnet": (lambda rngs: ResNet(blocks=(1,), width=4, stem="small", num_classes=3, rngs=rngs), (2, 8, 8, 3)),
    "cnn": (lambda rngs: CNN((8, 8), rngs=rngs), (2, 8, 8, 1)),
    "mlp": (lambda rngs: MLP((8, 8), rngs=rngs), (2, 8, 8)),
}


def products(jaxpr):
    """The types of what every matrix product and convolution of a program multiplies."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield {value.aval.dtype for value in equation.invars}
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("name", MODELS)
def test_every_product_is_in_16_bits_forward_and_backward(name):
    build, shape = MODELS[name]
    model = mixed_precision(from_nnx(build))
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    x = jnp.zeros(shape, jnp.float32 if len(shape) > 2 else jnp.int32)
    total = lambda params, stats: model.apply(params, stats, x, key=jax.random.key(0), train=True)[0].sum()
    found = list(products(jax.make_jaxpr(jax.grad(total))(params, stats).jaxpr))
    # The scores of attention are f32, and so is their gradient: it alone may meet what is narrower.
    assert len(found) > 2 and all(jnp.dtype("bfloat16") in types for types in found), found


def test_where_nothing_overflows_the_scale_changes_nothing_but_itself():
    plain, plain_metrics = ran(gradient(toy.LOSS), OPTIMIZER)
    how = loss_scaled(toy.LOSS, initial=1024.0, period=2)
    state, metrics = ran(how.grad_fn, how.optimizer(OPTIMIZER), how)
    toy.close(state.params, plain.params)
    assert int(state.stats["seen"]) == int(plain.stats["seen"]) == 3
    toy.close(metrics["loss"], plain_metrics["loss"])
    assert metrics["skipped"].value() == 0 and metrics["loss_scale"].value() == 2048
    # Two finite steps in a row doubled it, and a third one counts towards the next doubling.
    assert state.stats["loss_scale"]["scale"] == 2048 and state.stats["loss_scale"]["streak"] == 1


def test_an_overflow_halves_the_scale_and_touches_nothing_else():
    model = mixed_precision(toy.MODEL, jnp.float16)  # the largest float16 is 65,504
    how = loss_scaled(classify(model, inputs="x", labels="y"), initial=2.0**24, period=100)
    guarded = how.optimizer(OPTIMIZER)
    step, state = jax.jit(train_step(how.grad_fn, guarded)), jax.device_get(begun(guarded, how))
    skipped, scales = [], []
    for _ in range(14):
        before, (state, metrics) = state, jax.device_get(step(state, toy.BATCH))
        skipped.append(float(metrics["skipped"].value()))
        scales.append(float(state.stats["loss_scale"]["scale"]))
        assert np.isfinite(metrics["loss"].value())
        if skipped[-1]:
            jax.tree.map(np.testing.assert_array_equal, (before.params, before.stats["seen"], before.stats["mean"]),
                         (state.params, state.stats["seen"], state.stats["mean"]))  # fmt: skip
            assert scales[-1] == (scales[-2] if len(scales) > 1 else 2.0**24) / 2
            assert int(before.opt.inner_state[0].count) == int(state.opt.inner_state[0].count)
    first = skipped.index(0)
    assert 1 <= first < 14 and not any(skipped[first:]), "it settles where gradients fit"
    assert toy.apart(state.params, toy.PARAMS) > 1e-3 and int(state.stats["seen"]) == 14 - first
    # What it then computes is the gradient: near f32's, as far as 11 bits go.
    found, expected = jax.jit(
        lambda there: (how.grad_fn(toy.PARAMS, there)[0], gradient(toy.LOSS)(toy.PARAMS, toy.ctx())[0])
    )(toy.ctx(**{**state.stats, **toy.STATS}))
    toy.close(found, expected, rtol=0.02, atol=2e-3)


def test_a_small_gradient_that_float16_would_lose_is_kept_by_the_scale():
    def tiny(params, ctx):
        half = cast(params, jnp.float16)["w"] * jnp.float16(1)
        error = Mean(half.astype(jnp.float32).sum() * 1e-9, jnp.float32(1))
        return error.value(), Out({}, {"loss": error})

    how = loss_scaled(tiny, initial=2.0**20)
    params = {"w": np.ones(2, np.float32)}
    ctx = Ctx({}, {"loss_scale": how.memory(toy.KEY, params)}, toy.KEY, np.int32(0))
    lost, kept = jax.jit(lambda p, c: (gradient(tiny)(p, c)[0]["w"], how.grad_fn(p, c)[0]["w"]))(params, ctx)
    assert lost.tolist() == [0, 0]
    np.testing.assert_allclose(kept, 1e-9, rtol=1e-3)


def test_in_f32_the_scale_stays_finite_and_no_step_is_skipped():
    how = loss_scaled(toy.LOSS, initial=2.0**20, period=1)
    step = jax.jit(train_step(how.grad_fn, how.optimizer(OPTIMIZER)))
    state = jax.device_get(begun(how.optimizer(OPTIMIZER), how))
    for _ in range(130):
        state, metrics = step(state, toy.BATCH)
        assert metrics["skipped"].value() == 0
    assert state.stats["loss_scale"]["scale"] == 2.0**24


def test_the_scale_never_falls_below_one():
    how = loss_scaled(lambda p, c: (jnp.float32(jnp.nan) * p["w"].sum(), Out({}, {})), initial=2.0)
    ctx, params = Ctx({}, {"loss_scale": how.memory(None, None)}, toy.KEY, jnp.int32(0)), {"w": jnp.ones(2)}
    grad_fn = jax.jit(how.grad_fn)
    for expected in (1, 1):
        _, out = jax.device_get(grad_fn(params, ctx))
        ctx = ctx._replace(stats=out.stats)
        assert ctx.stats["loss_scale"]["scale"] == expected
