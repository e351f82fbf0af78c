"""Stacked layers against a list of the same; on a mesh they are in tests/distributed/test_sharding.py."""

import jax
import numpy as np
import pytest
from flax import nnx

from research.distributed.sharding import make_mesh, under
from research.errors import UserError
from research.layers.attention import causal_mask, padding_mask
from research.layers.batch_norm import BatchNorm
from research.layers.rotary import rotate
from research.layers.stack import Stack
from research.layers.transformer import Block
from research.model import from_nnx
from tests.models.fresh import fresh

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


class Layer(nnx.Module):
    """A linear layer with dropout, added to its input."""

    def __init__(self, *, rate=0.0, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        self.dropout = nnx.Dropout(rate)

    def __call__(self, x, *, mask=None, train, rngs=None):
        y = self.dropout(jax.numpy.tanh(self.linear(x)), deterministic=not train, rngs=rngs)
        return x + y


def stacked(depth=3, rate=0.0, **options):
    return from_nnx(lambda rngs: Stack(lambda: Layer(rate=rate, rngs=rngs), depth, **options))


def test_it_computes_what_the_layers_do_one_after_the_other():
    model = stacked()
    params, _ = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    assert params["stacked"]["linear"]["kernel"].shape == (3, 4, 4)
    expected, single = X, jax.jit(from_nnx(lambda rngs: Layer(rngs=rngs)).apply)
    for i in range(3):
        expected, _ = single(jax.tree.map(lambda x, i=i: x[i], params["stacked"]), {}, expected)
    found, _ = jax.jit(lambda x: model.apply(params, {}, x, train=True))(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Each layer begins with numbers of its own, and draws its own dropout.
    assert len({x.tobytes() for x in np.asarray(params["stacked"]["linear"]["kernel"])}) == 3


def test_dropout_differs_from_layer_to_layer_and_by_key():
    class Ones(nnx.Module):
        def __init__(self):
            self.dropout, self.scale = nnx.Dropout(0.5), nnx.Param(jax.numpy.ones(()))

        def __call__(self, x, *, mask=None, train, rngs=None):
            return x * 3 + self.dropout(jax.numpy.ones_like(x), deterministic=not train, rngs=rngs)

    model = from_nnx(lambda rngs: Stack(Ones, 2))
    params, _ = jax.jit(model.init)(jax.random.key(0))
    drawn = jax.jit(lambda key: model.apply(params, {}, X * 0, key=key, train=True)[0])
    run = lambda seed: np.asarray(drawn(jax.random.key(seed)))
    # 3 * first + second, each 0 or 2: all four where layers draw for themselves.
    assert set(np.unique(run(0))) == {0, 2, 6, 8} and (run(0) != run(1)).any() and (run(0) == run(0)).all()


def _trace(model, **axes):
    mesh = make_mesh(axes, devices=jax.devices()[:4])
    return jax.eval_shape(under(mesh, lambda params: model.apply(params, {}, X, train=True)[0]), fresh(model)[0])


def test_what_does_not_divide_is_refused():
    with pytest.raises(UserError, match="3 layers cannot be split over 4 pipeline stages"):
        _trace(stacked(), pipeline=4)
    with pytest.raises(UserError, match="6 examples cannot be split into 4 pipeline microbatches"):
        _trace(stacked(4), pipeline=4)
    assert _trace(stacked(4, microbatches=3), pipeline=4).shape == X.shape
    with pytest.raises(UserError, match="layers with stats, such as BatchNorm, cannot be stacked"):
        Stack(lambda: BatchNorm(4), 2)


def test_what_is_computed_anew_changes_no_number_and_keeps_less():
    params, _ = fresh(stacked())

    def grads(remat):
        model = stacked(remat=remat)
        loss = lambda p: (model.apply(p, {}, X, train=True)[0] ** 2).sum()
        return jax.jit(jax.grad(loss))(params), str(jax.make_jaxpr(jax.grad(loss))(params))

    (plain, kept), (again, anew), (dots, some) = (
        grads(name) for name in (None, "nothing_saveable", "dots_saveable")
    )  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), plain, again)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), plain, dots)
    products = [text.count("dot_general") for text in (kept, some, anew)]
    assert products[0] == products[1] < products[2], "a product is computed again only where it was not kept"
    assert kept.count("tanh") < some.count("tanh")
    with pytest.raises(UserError, match="remat policy.*dots_saveable"):
        stacked(remat="dots_savable").init(jax.random.key(0))


def test_every_kind_of_input_reaches_every_layer():
    """Inputs for all examples and inputs for each, in a loop and in a pipeline."""
    rng = np.random.default_rng(1)
    x, memory = rng.normal(size=(2, 4, 5, 8)).astype(np.float32)
    inputs = dict(
        mask=causal_mask(5), positions=rng.integers(9, size=(4, 5)), bias=rng.normal(size=(1, 2, 5, 5)).astype("f4"),
        memory=memory, memory_mask=padding_mask(rng.integers(1, 3, size=(4, 5)) * (np.arange(5) < 3)),
    )  # fmt: skip

    class Decoder(nnx.Module):
        def __init__(self, stack, rngs):
            options = dict(attention={"rope": rotate}, cross_attention={}, kernel_init=nnx.initializers.zeros_init())
            build = lambda: Block(8, heads=2, **options, rngs=rngs)
            self.blocks = Stack(build, 2) if stack else nnx.List(build() for _ in range(2))

        def __call__(self, x, *, train, rngs=None):
            for block in self.blocks if isinstance(self.blocks, nnx.List) else [self.blocks]:
                x = block(x, **inputs, train=train)
            return x

    models = [from_nnx(lambda rngs, stack=stack: Decoder(stack, rngs)) for stack in (False, True)]
    params, _ = fresh(models[0])
    stacked = jax.tree.map(lambda *x: np.stack(x), *(params["blocks"][i] for i in "01"))
    expected = jax.jit(models[0].apply)(params, {}, x)[0]
    run = lambda x: models[1].apply({"blocks": {"stacked": stacked}}, {}, x)[0]
    np.testing.assert_allclose(jax.jit(run)(x), expected, atol=1e-5)
    mesh = make_mesh({"pipeline": 2}, devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        np.testing.assert_allclose(jax.jit(run)(x), expected, atol=1e-5)
