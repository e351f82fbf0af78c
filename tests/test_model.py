"""The door for models: NNX, Linen and a bare pair of functions, through one step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from research.core import Model, Out, State, draw, gradient, train_step, weighted_mean
from research.errors import UserError
from research.model import from_linen, from_nnx


class Plain(nnx.Module):
    def __init__(self, depth=12, *, rngs):
        self.layers = nnx.List(nnx.Linear(3, 3, rngs=rngs) for _ in range(depth))
        self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x, *, train, rngs=None):
        for layer in self.layers:
            x = layer(x)
        return self.dropout(self.norm(x, use_running_average=not train), deterministic=not train, rngs=rngs)


class LinenPlain(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(3)(x))
        return nn.Dropout(0.5, deterministic=not train)(x)


def bare():
    return Model(
        lambda key: ({"w": jax.random.normal(key, (3, 3))}, {}),
        lambda params, stats, x, key=None, train=False: (x @ params["w"], {}),
    )


MODELS = {
    "nnx": lambda: from_nnx(lambda rngs: Plain(rngs=rngs)),
    "linen": lambda: from_linen(LinenPlain(), jax.ShapeDtypeStruct((1, 3), jnp.float32)),
    "bare": bare,
}


@pytest.mark.parametrize("kind", MODELS)
def test_each_kind_goes_through_the_same_door(kind):
    model = MODELS[kind]()

    def loss(params, ctx):
        y, stats = model.apply(params, ctx.stats, ctx.batch["x"], key=ctx.key, train=True)
        mean = weighted_mean(jnp.sum((y - 1) ** 2, -1), jnp.ones(len(y)))
        return mean.value(), Out(stats, {"loss": mean})

    params, stats = model.init(draw(0))
    assert all(isinstance(key, str) for tree in (params, stats) for key in _keys(tree))
    optimizer = optax.adam(0.1)
    state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), params, stats, optimizer.init(params))
    step = jax.jit(train_step(gradient(loss), optimizer))
    batch = {"x": np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)}
    first = float(step(state, batch)[1]["loss"].value())
    before = jax.tree.structure(state)
    for _ in range(20):
        state, metrics = step(state, batch)
    assert float(metrics["loss"].value()) < first
    assert jax.tree.structure(state) == before
    x = batch["x"]
    evaluated, changed = model.apply(state.params, state.stats, x, train=False)
    assert changed == {}
    np.testing.assert_array_equal(evaluated, model.apply(state.params, state.stats, x, train=False)[0])
    if kind != "bare":
        one, two = (model.apply(state.params, state.stats, x, key=draw(k), train=True) for k in range(2))
        assert not np.array_equal(one[0], two[0])
        assert not np.array_equal(jax.tree.leaves(one[1])[0], jax.tree.leaves(state.stats)[0])


def test_nnx_through_the_door_computes_what_the_module_computes():
    module = Plain(rngs=nnx.Rngs(draw(3)))
    model = from_nnx(lambda rngs: Plain(rngs=rngs))
    params, stats = model.init(draw(3))
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    # Twelve layers: sorted as texts, the eleventh would change places with the third.
    np.testing.assert_allclose(model.apply(params, stats, x)[0], module(x, train=False), rtol=1e-5)


def test_stored_random_state_is_refused():
    class Storing(nnx.Module):
        def __init__(self, *, rngs):
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    with pytest.raises(UserError, match="stores random state at .*rngs=rngs when calling it"):
        from_nnx(lambda rngs: Storing(rngs=rngs)).init(draw(0))


def _keys(tree):
    return [k for key, value in tree.items() for k in [key, *(_keys(value) if isinstance(value, dict) else [])]]


def test_params_of_elsewhere_need_no_initialisation_first():
    params, stats = MODELS["nnx"]().init(jax.random.key(0))
    x = np.ones((2, 3), np.float32)
    expected, _ = jax.jit(from_nnx(lambda rngs: Plain(rngs=rngs)).apply)(params, stats, x)
    model = from_nnx(lambda rngs: Plain(rngs=rngs))
    model.init(jax.random.key(1))
    np.testing.assert_array_equal(expected, jax.jit(model.apply)(params, stats, x)[0])
