import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.layers.layer_norm import LayerNorm, layer_norm

RNG = np.random.default_rng(0)
normal = lambda *shape: RNG.normal(size=shape).astype(np.float32)
X, SCALE, BIAS, W = 3 * normal(4, 5, 16) + 7, normal(16), normal(16), normal(4, 5, 16)


def theirs(x, scale, bias):
    layer = nnx.LayerNorm(16, epsilon=1e-6, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = scale, bias
    return layer(x)


def test_the_layer_is_flax_s():
    layer = LayerNorm(16)
    layer.scale[...], layer.bias[...] = SCALE, BIAS
    np.testing.assert_allclose(jax.jit(layer)(X), jax.jit(theirs)(X, SCALE, BIAS), atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_derivatives_of_both_modes_and_of_second_order_are_those_of_autodiff(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)

    def of(norm):
        loss = lambda args: jnp.sum(jnp.sin(norm(*args)) * W)
        args = (X, SCALE, BIAS)
        directions = jax.tree.map(np.cos, args)

        @jax.jit
        def all_of_them(args):
            value, forward = jax.jvp(loss, (args,), (directions,))
            gradient, product = jax.jvp(jax.grad(loss), (args,), (directions,))  # forward over reverse
            return value, forward, gradient, product, jax.grad(lambda a: jax.jvp(loss, (a,), (directions,))[1])(args)

        return all_of_them(args)

    for found, expected in zip(jax.tree.leaves(of(layer_norm)), jax.tree.leaves(of(theirs)), strict=True):
        assert abs(np.asarray(expected)).max() > 0.01
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_sixteen_bits_come_out_as_they_went_in_and_are_normalised_in_thirty_two():
    x = (X.astype(jnp.bfloat16) + 300).astype(
        jnp.bfloat16
    )  # a variance of squares near 90,000 has no digit left in bfloat16
    y, dy = jax.jit(lambda x: jax.jvp(lambda x: layer_norm(x, SCALE, BIAS), (x,), (jnp.ones_like(x),)))(x)
    assert y.dtype == dy.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), jax.jit(theirs)(np.float32(x), SCALE, BIAS), rtol=2e-2, atol=2e-2)


def test_example_by_example_is_the_batch():
    total = lambda x, w: jnp.sum(layer_norm(x, SCALE, BIAS) * w)
    found = jax.jit(jax.vmap(jax.grad(total)))(X, W)  # as private gradients take it
    np.testing.assert_allclose(found, jax.jit(jax.grad(total))(X, W), rtol=1e-5, atol=1e-6)


def test_a_constant_input_is_the_bias():
    of = lambda x: layer_norm(x, SCALE, BIAS)
    value, slope = jax.jit(lambda x: (of(x), jax.grad(lambda x: of(x).sum())(x)))(np.full((2, 16), 1e3, np.float32))
    np.testing.assert_allclose(value, np.broadcast_to(BIAS, (2, 16)), atol=1e-3)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("mean", [0, 100, 1000, -3e4])
def test_features_far_from_0_have_the_variance_of_f64(mean):
    x = (RNG.normal(size=(6, 512)) + mean).astype(np.float32)
    x[0, 0] += 300  # an outlier
    x[1] = mean
    exact = x.astype(np.float64)
    y = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-6)
    found = jax.jit(layer_norm)(x, np.ones(512, np.float32), np.zeros(512, np.float32))
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)
