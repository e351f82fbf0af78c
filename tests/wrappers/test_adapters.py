"""Adapters: their start, their output and gradient by hand, and their form in a Stack and in 16 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.bert import BERT
from research.models.llama import LLaMA
from research.models.mlp import MLP
from research.tree import path_name, shapes
from research.wrappers.adapters import adapters
from research.wrappers.lora import lora
from research.wrappers.mixed_precision import mixed_precision
from tests.models.fresh import fresh

KEY = jax.random.key(3)
BASE = from_nnx(lambda rngs: MLP((6,), hidden=(16, 12), num_classes=3, rngs=rngs))
TUNED = adapters(BASE, "layers/.*kernel$", width=2, train="^head/")
SIZES = dict(vocabulary=7, length=8, width=8, depth=2, heads=2, hidden=12)
X = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)


def block_models(stack=None):
    return [
        from_nnx(lambda rngs: BERT(**SIZES, num_classes=3, stack=stack, rngs=rngs)),
        from_nnx(lambda rngs: LLaMA(**SIZES, stack=stack, rngs=rngs)),
    ]


@pytest.mark.parametrize("stack", [None, Stack])
@pytest.mark.parametrize("kind", [0, 1])
def test_with_up_at_0_it_equals_the_model_bitwise(kind, stack):
    model = block_models(stack)[kind]
    tuned, tokens = adapters(model, width=3), np.arange(12).reshape(2, 6) % 7
    params, stats = fresh(tuned)
    params = jax.tree.map_with_path(lambda path, x: 0 * x if "/up/" in path_name(path) else x, params)
    np.testing.assert_array_equal(
        jax.jit(tuned.apply)(params, stats, tokens)[0], jax.jit(model.apply)(stats["frozen"], {}, tokens)[0]
    )
    names = shapes(params)
    assert all("/adapter/" in name for name in names) and len(names) == 4 * (2 if stack else 4)
    assert shapes(stats["frozen"]) == shapes(jax.eval_shape(model.init, KEY)[0])


def test_it_starts_with_up_at_0_and_down_with_variance_one_over_its_inputs():
    wide = from_nnx(lambda rngs: MLP((5,), hidden=(64,), rngs=rngs))
    adapter = adapters(wide, "layers/0/kernel", width=50).init(KEY)[0]["layers"]["0"]["adapter"]
    assert not any(np.any(x) for x in (*adapter["up"].values(), adapter["down"]["bias"]))
    down = adapter["down"]["kernel"]
    np.testing.assert_allclose(np.var(down) * 64, 1, rtol=4 * np.sqrt(2 / down.size))


def test_the_output_and_the_gradient_equal_those_written_by_hand():
    params, stats = fresh(TUNED)
    assert sorted(params) == ["head", "layers"] and sorted(params["layers"]["0"]) == ["adapter"]

    def by_hand(params):
        h = X
        for i in ("0", "1"):
            base, adapter = stats["frozen"]["layers"][i], params["layers"][i]["adapter"]
            h = h @ base["kernel"] + base["bias"]
            hidden = h @ adapter["down"]["kernel"] + adapter["down"]["bias"]
            hidden = hidden * (1 + jax.scipy.special.erf(hidden / np.sqrt(2))) / 2
            h = jax.nn.relu(h + hidden @ adapter["up"]["kernel"] + adapter["up"]["bias"])
        return (jnp.sin(h @ params["head"]["kernel"] + params["head"]["bias"])).sum()

    total = lambda params: jnp.sin(TUNED.apply(params, stats, X)[0]).sum()
    found, expected = (jax.jit(jax.value_and_grad(f))(params) for f in (total, by_hand))
    assert all(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_stacked_adapters_are_those_of_a_list():
    stacked, listed = (adapters(block_models(stack)[1], width=3) for stack in (Stack, None))
    params, stats = fresh(stacked)
    apart = lambda tree: {
        **tree,
        "blocks": {str(i): jax.tree.map(lambda x, i=i: x[i], tree["blocks"]["stacked"]) for i in range(2)},
    }
    tokens = np.arange(12).reshape(2, 6) % 7
    found = jax.jit(stacked.apply)(params, stats, tokens)[0]
    expected = jax.jit(listed.apply)(apart(params), {"frozen": apart(stats["frozen"])}, tokens)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_mixed_precision_inside_multiplies_in_16_bits():
    half = adapters(mixed_precision(BASE), "layers/.*kernel$", width=2, train="^head/")
    params, stats = fresh(TUNED)
    text = str(jax.make_jaxpr(lambda p, s: half.apply(p, s, X)[0])(params, stats))
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 7 and all("bf16" in line for line in products)
    exact = np.asarray(TUNED.apply(params, stats, X)[0])
    assert 0 < np.abs(np.asarray(half.apply(params, stats, X)[0]) - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adapters(BASE, "layers/0/kernal"), "adapters: pattern .* Did you mean 'layers/0/kernel'"),
        (lambda: adapters(BASE, "kernel", train="hed"), "adapters: train 'hed' matches no parameter"),
        (lambda: adapters(BASE, "layers/0"), "expected only kernels of linear layers"),
        (lambda: adapters(BASE, "kernel", train="head"), "both match 'head/kernel'"),
        (lambda: adapters(BASE, "kernel", width=0), r"adapters\(width=0\); expected at least 1"),
        (lambda: adapters(lora(BASE, "kernel", rank=1), "kernel"), "already has the stats entry 'frozen'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(make().init, KEY)
