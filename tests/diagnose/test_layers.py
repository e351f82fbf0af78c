"""The statistics of layers against numpy, on models whose activations are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, Out, weighted_mean
from research.data import arrays, batches
from research.diagnose import activations
from research.diagnose.layers import layers, spared, with_layers
from research.errors import UserError
from research.evaluate import Results, evaluator
from research.events import Evaluated, Interval
from research.experiment import Experiment, build
from tests import toys

X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
W = {
    "up": {"kernel": np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32), "bias": np.zeros(8, np.float32)},
    "down": {"kernel": np.random.default_rng(2).normal(size=(8, 1)).astype(np.float32)},
}
W["up"]["bias"][:3] = -100.0  # three dead units


def apply_with(activation):
    def apply(params, stats, x, key=None, train=False):
        hidden = activation(x @ params["up"]["kernel"] + params["up"]["bias"])
        return (hidden @ params["down"]["kernel"])[:, 0], {}

    return apply


def loss_with(activation):
    def loss(params, ctx):
        y, _ = apply_with(activation)(params, {}, ctx.batch["x"])
        mean = weighted_mean((y - 1) ** 2, jnp.ones(len(y)))
        return mean.value(), Out({}, {"loss": mean})

    return loss


def seen(activation):
    ctx = Ctx({"x": jnp.asarray(X)}, {}, jax.random.key(0), jnp.int32(0))
    value, out = activations.watched(loss_with(activation))(jax.tree.map(jnp.asarray, W), ctx)
    plain = loss_with(activation)(jax.tree.map(jnp.asarray, W), ctx)[0]
    assert value == plain
    found = out.metrics["activations"]
    return {statistic: {layer: float(x.value()) for layer, x in of.items()} for statistic, of in found.items()}


@pytest.mark.parametrize("relu", [jax.nn.relu, lambda x: jnp.maximum(x, 0), jax.nn.relu6, jax.jit(jax.nn.relu)])
def test_dead_units_are_counted_and_outputs_measured(relu):
    found = seen(relu)
    product = X @ W["up"]["kernel"]
    alive = (product + W["up"]["bias"] > 0).any(0)
    assert found["dead"] == pytest.approx({"up": 1 - alive.mean()}) and found["dead"]["up"] >= 3 / 8
    assert found["mean"]["up"] == pytest.approx(product.mean(), rel=1e-5)
    assert found["std"]["up"] == pytest.approx(product.std(), rel=1e-5)
    assert set(found["std"]) == {"up", "down"} and "saturated" not in found


@pytest.mark.parametrize("function", [jnp.tanh, jax.nn.sigmoid, lambda x: 1.7 * jnp.tanh(x)])
def test_saturated_values_are_counted(function):
    values = X @ W["up"]["kernel"] + W["up"]["bias"]
    low, high = (-0.98, 0.98) if function is not jax.nn.sigmoid else (0.01, 0.99)
    squashed = (1 + np.tanh(values / 2)) / 2 if function is jax.nn.sigmoid else np.tanh(values)
    assert seen(function)["saturated"] == pytest.approx({"up": ((squashed < low) | (squashed > high)).mean()})


@pytest.mark.parametrize("gate", [jax.nn.gelu, jax.nn.silu, lambda x: x * jnp.tanh(x), jax.nn.leaky_relu])
def test_gates_neither_saturate_nor_die(gate):
    assert set(seen(gate)) == {"mean", "std"}


def test_the_gradient_of_a_watched_loss_is_that_of_the_loss():
    def at_zero(params, ctx):  # where the gradient of jax.nn.relu is 0, and that of max would be a half
        return loss_with(jax.nn.relu)({**params, "up": jax.tree.map(jnp.zeros_like, params["up"])}, ctx)

    ctx = Ctx({"x": jnp.asarray(X)}, {}, jax.random.key(0), jnp.int32(0))
    for loss in (loss_with(jax.nn.relu), at_zero):
        plain, watched = (jax.grad(f, has_aux=True)(jax.tree.map(jnp.asarray, W), ctx)[0]
                          for f in (loss, activations.watched(loss)))  # fmt: skip
        for a, b in zip(*map(jax.tree.leaves, (plain, watched)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_layers_are_modules_and_never_too_many():
    params = {"blocks": {str(i): {n: {"kernel": 0, "bias": 0} for n in "ab"} for i in range(20)}, "head": {"kernel": 0}}
    assert set(activations.layer_names(params)) == {*(f"blocks/{i}" for i in range(20)), "head"}
    assert set(activations.layer_names({"blocks": {str(i): {"k": 0} for i in range(33)}})) == {"blocks"}
    assert activations.layer_names({"w": 0}) == ["w"] and activations.layer_names({}) == []


def linear(**changes) -> Experiment:
    data = arrays(x=X)
    return Experiment(
        init=lambda key: (jax.tree.map(jnp.asarray, W), {}), apply=apply_with(jnp.tanh), loss=loss_with(jnp.tanh),
        optimizer=optax.sgd(0.1), source=batches(data, 16, shuffle=False), steps=20, **changes,
    )  # fmt: skip


def numbers(experiment, devices=1):
    built = with_layers(build(experiment, devices=jax.devices()[:devices]))
    assert built.eval_every["layers"].length == 2
    evaluate = evaluator(built.experiment.evals["layers"], experiment.apply, mesh=built.mesh)
    state = built.fresh()
    once = evaluate(state).numbers
    assert evaluate(state).numbers == once  # nothing random, and nothing is used up
    return once


def test_norms_and_updates_are_those_of_the_step():
    ctx = Ctx({"x": jnp.asarray(X)}, {}, jax.random.key(0), jnp.int32(0))
    grads = jax.grad(loss_with(jnp.tanh), has_aux=True)(jax.tree.map(jnp.asarray, W), ctx)[0]
    found = numbers(linear())
    for layer in ("up", "down"):
        weight, gradient = (
            np.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(t[layer]))) for t in (W, grads)
        )
        assert found[f"weight/{layer}"] == pytest.approx(weight, rel=1e-5)
        assert found[f"gradient/{layer}"] == pytest.approx(gradient, rel=1e-5)
        assert found[f"update/{layer}"] == pytest.approx(0.1 * gradient / weight, rel=1e-5)


def test_four_devices_give_the_same():
    assert len(jax.devices()) >= 4
    assert numbers(linear(), devices=4) == pytest.approx(numbers(linear()), rel=1e-5)


def test_where_there_can_be_none():
    assert layers(linear(transform=lambda step: step)) is None
    with pytest.raises(UserError, match="declares its own step"):
        with_layers(build(linear(transform=lambda step: step), devices=jax.devices()[:1]))
    with pytest.raises(UserError, match="invalid evaluation name 'layers'"):
        build(linear(evals={"layers": toys.experiment().evals["valid"]}), devices=jax.devices()[:1])
    built = build(linear(), devices=jax.devices()[:1])

    def needs_an_axis(params, ctx):
        return jax.lax.pmean(params, "nowhere"), None

    broken = built._replace(experiment=linear(grad_fn=needs_an_axis))
    with pytest.raises(UserError, match="cannot be computed outside the step.*nowhere"):
        with_layers(broken)


def test_a_grad_fn_of_its_own_gives_norms_only():
    def doubled(params, ctx):
        grads, out = jax.grad(loss_with(jnp.tanh), has_aux=True)(params, ctx)
        return jax.tree.map(lambda g: 2 * g, grads), out

    plain, found = numbers(linear()), numbers(linear(grad_fn=doubled))
    assert found["gradient/up"] == pytest.approx(2 * plain["gradient/up"], rel=1e-5)
    assert {name.split("/")[0] for name in found} == {"gradient", "weight", "update"}


def test_those_who_are_spared_hear_of_all_else():
    heard = []
    listen = spared(heard.append)
    events = [Interval(1, {}, {}), *(Evaluated(1, name, Results({}, {}, {}, {}, {})) for name in ("valid", "layers"))]
    for event in events:
        listen(event)
    assert heard == events[:2]


def test_the_optimizer_is_told_the_loss():
    given = []
    seeing = optax.GradientTransformationExtraArgs(
        lambda params: (), lambda updates, state, params=None, **extra: (given.append(set(extra)), (updates, state))[1]
    )
    numbers(dataclasses.replace(linear(), optimizer=seeing))
    assert given and all("value" in extra for extra in given)
