import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.layers import linear
from research.layers.linear import Linear, dot_general

RNG = np.random.default_rng(0)
normal = lambda *shape: jnp.asarray(RNG.normal(size=shape), jnp.float32)
X, KERNEL, W = normal(4, 300, 6), normal(6, 5), normal(4, 300, 5)
LAST = (((2,), (0,)), ((), ()))


def test_the_layer_is_flax_s():
    theirs = nnx.Linear(6, 5, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(jax.jit(Linear(6, 5, rngs=nnx.Rngs(0)))(X), theirs(X), rtol=1e-5, atol=1e-6)


def test_derivatives_of_both_modes_and_of_second_order_are_those_of_autodiff():
    def of(product):
        loss = lambda args: jnp.sum(jnp.sin(product(*args, LAST)) * W)
        args = (X, KERNEL)
        directions = jax.tree.map(jnp.cos, args)

        @jax.jit
        def all_of_them(args):
            value, forward = jax.jvp(loss, (args,), (directions,))
            gradient, hessian = jax.jvp(jax.grad(loss), (args,), (directions,))  # forward over reverse
            return value, forward, gradient, hessian, jax.grad(lambda a: jax.jvp(loss, (a,), (directions,))[1])(args)

        return all_of_them(args)

    for found, expected in zip(jax.tree.leaves(of(dot_general)), jax.tree.leaves(of(jax.lax.dot_general)), strict=True):
        assert abs(np.asarray(expected)).max() > 0.01
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("backend, rows, transposed", [("cpu", 1024, True), ("cpu", 1023, False), ("gpu", 1024, False)])
def test_the_gradient_of_a_kernel_is_taken_from_transposed_rows_on_cpu_where_there_are_many(
    monkeypatch, backend, rows, transposed
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert linear.ROWS == 1024
    gradient = jax.grad(lambda kernel, x: dot_general(x, kernel, (((1,), (0,)), ((), ()))).sum())
    text = str(jax.make_jaxpr(gradient)(KERNEL, jnp.ones((rows, 6))))
    assert ("optimization_barrier" in text) == transposed


def test_sixteen_bits_are_added_up_in_what_was_asked_for():
    x, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    product = lambda kernel: dot_general(x, kernel, LAST, preferred_element_type=jnp.float32)
    y, change = jax.jvp(product, (kernel,), (kernel,))
    assert y.dtype == change.dtype == jnp.float32
    gradient = jax.grad(lambda kernel: (product(kernel) * W).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(change, y)
    expected = jnp.einsum("btf,bto->fo", x.astype(jnp.float32), W)
    np.testing.assert_allclose(gradient.astype(jnp.float32), expected, rtol=2e-2, atol=0.2)


def test_example_by_example_is_the_batch():
    total = lambda kernel, x, w: jnp.sum(dot_general(x, kernel, (((1,), (0,)), ((), ()))) * w)
    x, w = normal(2, 1100, 6), normal(2, 1100, 5)
    found = jax.jit(jax.vmap(jax.grad(total), (None, 0, 0)))(KERNEL, x, w)  # as private gradients take it
    np.testing.assert_allclose(found.sum(0), jax.grad(total)(KERNEL, x.reshape(-1, 6), w.reshape(-1, 5)), rtol=1e-3)
