"""The convolution against XLA's own, in every direction of differentiation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.distributed.sharding import make_mesh
from research.layers import convolution
from research.layers.convolution import conv_general_dilated

FORMS = {
    "3 x 3": dict(size=(3, 3), strides=(1, 1), padding="SAME"),
    "strided": dict(size=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1))),
    "uneven": dict(size=(2, 4), strides=(3, 1), padding=((-1, 2), (1, 0))),
    "1 x 1": dict(size=(1, 1), strides=(1, 1), padding="SAME"),
    "1 x 1, padded": dict(size=(1, 1), strides=(1, 1), padding=((1, 0), (0, 0))),
    "1 x 1, strided": dict(size=(1, 1), strides=(2, 2), padding="VALID"),
    "dilated": dict(size=(3, 3), strides=(1, 2), padding="SAME", rhs_dilation=(2, 1)),
    "in groups": dict(size=(3, 3), strides=(1, 1), padding="SAME", feature_group_count=2),
    "transposed": dict(size=(3, 3), strides=(1, 1), padding=((2, 2), (2, 2)), lhs_dilation=(2, 2)),
    "of a row": dict(size=(5,), strides=(2,), padding="SAME"),
    "of a volume": dict(size=(2, 2, 2), strides=(1, 1, 2), padding="SAME"),
}


def both(size, strides, padding, **options):
    """(our function, XLA's, (x, kernel), a direction for each); features last."""
    rng = np.random.default_rng(0)
    shape = (6, *(9, 8, 7)[: len(size)], 4)
    kernel = (*size, 4 // options.get("feature_group_count", 1), 6)
    x, dx, k, dk = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (shape, shape, kernel, kernel))
    spatial = "HWD"[: len(size)]
    options["dimension_numbers"] = jax.lax.conv_dimension_numbers(
        shape, kernel, (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    )
    ours, xla = (
        lambda x, k, f=f: f(x, k, strides, padding, **options)
        for f in (conv_general_dilated, jax.lax.conv_general_dilated)
    )
    return ours, xla, (x, k), (dx, dk)


@pytest.mark.parametrize("name", FORMS)
def test_values_and_derivatives_are_those_of_xla(name, monkeypatch):
    monkeypatch.setattr(convolution, "PIECE", 20_000)  # so that some examples make a piece, and there are several
    ours, xla, primals, tangents = both(**FORMS[name])

    @functools.partial(jax.jit, static_argnums=0)
    def found(f):
        loss = lambda x, k: (jnp.tanh(f(x, k)) ** 2).sum()
        gradient = jax.grad(loss, (0, 1))
        return {
            "value": f(*primals),
            "gradient": gradient(*primals),
            "forward": jax.jvp(f, primals, tangents)[1],
            "forward over reverse": jax.jvp(gradient, primals, tangents)[1],
            "reverse over reverse": jax.grad(lambda *p: sum((g**2).sum() for g in gradient(*p)), (0, 1))(*primals),
            "of each example": jax.vmap(lambda x: jax.grad(loss, 1)(x[None], primals[1]))(primals[0]),
            "of the kernel alone": jax.grad(lambda k: loss(primals[0], k))(primals[1]),
        }

    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found(ours)), jax.tree.leaves(found(xla)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max(), err_msg=jax.tree_util.keystr(path))


def backward(f, x, k):
    return str(jax.make_jaxpr(jax.grad(lambda k: f(x, k).sum()))(k))


def test_the_gradient_of_the_kernel_is_matrix_products_on_cpu_alone(monkeypatch):
    ours, _, (x, k), _ = both(**FORMS["3 x 3"])
    text = backward(ours, x, k)
    assert "dot_general" in text and text.count("= conv_general_dilated") == 1  # the forward pass
    assert "dot_general" not in backward(both(**FORMS["in groups"])[0], *both(**FORMS["in groups"])[2])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "dot_general" not in backward(ours, x, k)


def test_a_kernel_of_one_place_is_a_matrix_on_cpu():
    for name, matrix in {"1 x 1": True, "1 x 1, strided": True, "1 x 1, padded": False, "3 x 3": False}.items():
        ours, _, primals, _ = both(**FORMS[name])
        assert ("conv_general_dilated" not in str(jax.make_jaxpr(ours)(*primals))) == matrix


def test_half_precision_adds_its_pieces_up_in_single_precision(monkeypatch):
    ours, _, (x, k), _ = both(**FORMS["3 x 3"])
    x, k = jnp.tile(x, (40, 1, 1, 1)) + 1, k.astype(jnp.bfloat16)
    monkeypatch.setattr(convolution, "PIECE", 1)  # 240 pieces: in bf16 their sum would be off by a per cent or more
    gradient = jax.jit(jax.grad(lambda k: ours(x.astype(jnp.bfloat16), k).astype(jnp.float32).sum()))(k)
    exact = jax.grad(lambda k: ours(x, k).sum())(k.astype(jnp.float32))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient.astype(jnp.float32), exact, rtol=6e-3)


def test_devices_add_up_their_own_examples_and_the_sums_once(monkeypatch):
    monkeypatch.setattr(convolution, "PIECE", 1)  # an example a piece: two for each device
    ours, xla, (x, k), _ = both(**FORMS["3 x 3"])
    x = jnp.concatenate([x, x[:2]])
    mesh = make_mesh({"data": 4}, devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        x = jax.device_put(x, jax.P("data"))
        compiled = jax.jit(jax.grad(lambda k, x: (ours(x, k) ** 2).sum())).lower(k, x).compile()
        found = compiled(k, x)
    text = compiled.as_text()
    assert "all-gather" not in text and text.count(" all-reduce(") == 1 and " while(" in text
    expected = jax.grad(lambda k: (xla(jnp.asarray(np.asarray(x)), k) ** 2).sum())(k)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_groups_of_examples_are_those_of_xla():
    ours, xla, primals, _ = both(size=(3, 3), strides=(1, 1), padding="SAME", batch_group_count=2)
    found, expected = (
        jax.jit(lambda x, k, f=f: (f(x, k), jax.grad(lambda x, k: (f(x, k) ** 2).sum(), (0, 1))(x, k)))(*primals)
        for f in (ours, xla)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)
