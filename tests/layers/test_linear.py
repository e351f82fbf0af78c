import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.layers.linear import Linear, dot_general, flatten_leading_axes

RNG = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)
X, KERNEL, W = normal(4, 3, 7, 6), normal(6, 5), normal(4, 3, 7, 5)


@pytest.mark.parametrize("shape", [(6,), (4, 6), (4, 3, 6), (4, 3, 7, 6), (0, 3, 6)])
def test_the_layer_is_flax_s(shape):
    theirs, x = nnx.Linear(6, 5, rngs=nnx.Rngs(0)), normal(*shape)
    found = jax.jit(Linear(6, 5, rngs=nnx.Rngs(0)))(x)
    assert found.shape == (*shape[:-1], 5)
    np.testing.assert_allclose(found, theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend, matrices", [("cpu", True), ("gpu", False)])
def test_the_gradient_of_a_kernel_is_a_product_of_two_matrices_on_cpu(monkeypatch, backend, matrices):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    loss = lambda kernel: jnp.sum(jnp.sin(dot_general(X, kernel)) * W)
    gradient = jax.make_jaxpr(jax.grad(loss))(KERNEL)
    products = [eqn for eqn in gradient.eqns if eqn.primitive.name == "dot_general"]
    assert len(products) == 2
    assert all(v.aval.ndim == 2 for eqn in products for v in eqn.invars) == matrices
    expected = jnp.einsum("abcf,abco->fo", X, jnp.cos(X @ KERNEL) * W)
    np.testing.assert_allclose(jax.grad(loss)(KERNEL), expected, rtol=1e-4, atol=1e-4)


def test_what_a_product_is_asked_for_reaches_it():
    x, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    assert dot_general(x, kernel, preferred_element_type=jnp.float32).dtype == jnp.float32


def test_any_linear_map_of_the_last_axis():
    np.testing.assert_allclose(flatten_leading_axes(lambda x: x @ KERNEL, X), X @ KERNEL, rtol=1e-5, atol=1e-5)


def test_example_by_example_is_the_batch():
    total = lambda kernel, x, w: jnp.sum(dot_general(x, kernel) * w)
    found = jax.jit(jax.vmap(jax.grad(total), (None, 0, 0)))(KERNEL, X, W)  # as private gradients take it
    np.testing.assert_allclose(found, jnp.einsum("abcf,abco->afo", X, W), rtol=1e-4, atol=1e-5)
