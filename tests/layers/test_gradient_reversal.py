"""The reversed gradient against the chain rule."""

import jax
import jax.numpy as jnp
import numpy as np

from research.layers.gradient_reversal import reverse_gradient

X = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)


def test_forward_it_is_the_identity_and_backward_it_turns_the_sign():
    below = lambda x, scale: jnp.sum(jnp.sin(reverse_gradient(x**3, scale)))
    np.testing.assert_array_equal(reverse_gradient(X, 0.7), X)
    expected = 3 * X**2 * np.cos(X**3)
    np.testing.assert_allclose(jax.grad(below)(X, 0.7), -0.7 * expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(below))(X, jnp.float32(-1)), expected, rtol=1e-5)
    assert np.all(jax.grad(below)(X, 0.0) == 0)


def test_the_scale_gets_no_gradient_and_the_gradient_keeps_its_type():
    loss = lambda x, scale: jnp.sum(reverse_gradient(x, scale) * jnp.arange(2, dtype=x.dtype)).astype(jnp.float32)
    gradient = jax.grad(loss)(jnp.asarray(X, jnp.bfloat16), jnp.float32(2))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient.astype(np.float32), np.tile([0.0, -2.0], (3, 1)))
    assert jax.grad(loss, argnums=1)(X, jnp.float32(2)) == 0
