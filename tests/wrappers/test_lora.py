"""LoRA: its start, its step, its cost and its merged params, each against the model written without it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from research.core import Ctx, gradient
from research.errors import UserError
from research.gradients.accumulate import accumulate
from research.layers.linear import Linear
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.gpt import GPT
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.tree import shapes
from research.wrappers.frozen import frozen
from research.wrappers.lora import lora, merged
from research.wrappers.mixed_precision import mixed_precision
from tests.wrappers.peft import GPT2, PARAMS, TRUTH, close, outputs_and_gradient

KEY = jax.random.key(3)
BASE = from_nnx(lambda rngs: MLP((6, 6, 1), hidden=(16, 12), num_classes=4, rngs=rngs))
X = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype(np.float32)
Y = np.arange(8) % 4
TUNED = lora(BASE, "layers/.*kernel$", rank=2, alpha=6.0, train="^head/")


@functools.cache
def initial(model):
    return jax.jit(model.init)(KEY)


def started(model, seed=1):
    """Initial params and stats, with random numbers instead of the zeros of `lora_b`."""
    params, stats = initial(model)
    rng = np.random.default_rng(seed)
    noise = lambda path, x: jnp.asarray(rng.normal(size=x.shape), x.dtype) if "lora_b" in str(path) else x
    return jax.tree.map_with_path(noise, params), stats


def test_at_the_start_it_equals_the_model_bitwise():
    found = jax.jit(TUNED.apply)(*initial(TUNED), X)[0]
    np.testing.assert_array_equal(found, jax.jit(BASE.apply)(*initial(BASE), X)[0])


def test_only_factors_and_the_head_are_trained_and_have_moments():
    params, stats = jax.eval_shape(TUNED.init, KEY)
    assert shapes(params) == {
        "head/bias": "float32[4]", "head/kernel": "float32[12,4]",
        "layers/0/lora_a": "float32[36,2]", "layers/0/lora_b": "float32[2,16]",
        "layers/1/lora_a": "float32[16,2]", "layers/1/lora_b": "float32[2,12]",
    }  # fmt: skip
    assert sorted(shapes(stats["frozen"])) == [f"layers/{i}/{name}" for i in (0, 1) for name in ("bias", "kernel")]
    moments = jax.eval_shape(optax.adam(1.0).init, params)[0].mu
    assert shapes(moments) == shapes(params)


def test_the_factors_are_normal_with_variance_one_over_the_inputs():
    wide = from_nnx(lambda rngs: MLP((400,), hidden=(64,), rngs=rngs))
    a = initial(lora(wide, "layers/0/kernel", rank=50))[0]["layers"]["0"]["lora_a"]
    np.testing.assert_allclose(np.var(a) * 400, 1, rtol=4 * np.sqrt(2 / a.size))


def test_the_gradient_equals_that_of_the_network_written_by_hand():
    params, stats = started(TUNED)

    def by_hand(params):
        h = X.reshape(8, -1)
        for i in ("0", "1"):
            base, factors = stats["frozen"]["layers"][i], params["layers"][i]
            h = jax.nn.relu(h @ (base["kernel"] + 3.0 * factors["lora_a"] @ factors["lora_b"]) + base["bias"])
        logits = h @ params["head"]["kernel"] + params["head"]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, Y).mean()

    ctx = Ctx({"image": X, "label": Y}, stats, KEY, jnp.int32(0))
    loss = classify(TUNED, inputs="image", labels="label")
    expected = jax.jit(jax.grad(by_hand))(params)
    assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(expected))
    for grad_fn in (gradient(loss), accumulate(gradient(loss), 2)):
        found, _ = jax.jit(grad_fn)(params, ctx)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), found, expected)


def test_it_equals_peft():
    name = "base_model.model.transformer.h.{}.mlp.c_fc.lora_{}.default.weight"
    factors = lambda kind: {
        str(i): {
            "feed_forward": {"up": {f"lora_{f}": TRUTH[f"lora/{kind}{name.format(i, f.upper())}"].T for f in "ab"}}
        }
        for i in range(2)
    }
    tuned = lora(GPT2, "feed_forward/up/kernel$", rank=2, alpha=6.0)
    stats = {"frozen": PARAMS, "lora": {"scale": jnp.float32(3)}}
    assert shapes(tuned.init(KEY)[0]) == shapes({"blocks": factors("")})
    logits, gradient = outputs_and_gradient(tuned, {"blocks": factors("")}, stats)
    close(logits, TRUTH["lora/logits"])
    jax.tree.map(close, gradient, {"blocks": factors("gradient/")})


def test_the_backward_pass_computes_no_gradient_of_a_frozen_kernel():
    base = from_nnx(lambda rngs: MLP((64,), hidden=(64, 64), num_classes=64, rngs=rngs))
    x = jnp.ones((128, 64))

    def flops(model):
        params, stats = jax.eval_shape(model.init, KEY)
        total = lambda params, stats, x: (model.apply(params, stats, x)[0] ** 2).sum()
        return jax.jit(jax.grad(total)).lower(params, stats, x).compile().cost_analysis()["flops"]

    full, tuned = flops(base), flops(lora(base, "kernel$", rank=1))
    product = 2 * 128 * 64 * 64
    # Full: 3 products forward, 2 for inputs and 3 for kernels. The factors' own products have 1 / 64 of the size.
    assert 8 * product < full < 8.5 * product
    assert 5 * product < tuned < 6 * product


def test_merged_params_give_the_same_outputs():
    params, stats = started(TUNED)
    base, whole = jax.jit(BASE.apply), jax.jit(merged)(params, stats)
    found = base(whole, {}, X)[0]
    expected = jax.jit(TUNED.apply)(params, stats, X)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(found - base(initial(BASE)[0], {}, X)[0]).max() > 0.1
    assert shapes(whole) == shapes(jax.eval_shape(BASE.init, KEY)[0])


def test_stacked_layers_have_stacked_factors():
    tokens = np.arange(8).reshape(2, 4) % 7
    base = from_nnx(lambda rngs: GPT(vocabulary=7, length=4, width=8, depth=3, heads=2, stack=Stack, rngs=rngs))
    tuned = lora(base, "attention/[qv]/kernel$", rank=2)
    start = initial(tuned)
    names = shapes(start[0])
    assert len(names) == 4 and sorted(set(names.values())) == ["float32[3,2,8]", "float32[3,8,2]"]
    by_base, by_tuned = jax.jit(base.apply), jax.jit(tuned.apply)
    plain = by_base(*initial(base), tokens)[0]
    np.testing.assert_array_equal(by_tuned(*start, tokens)[0], plain)
    params, stats = started(tuned)
    found = by_tuned(params, stats, tokens)[0]
    assert np.abs(found - plain).max() > 1e-3
    whole = jax.jit(merged)(params, stats)
    np.testing.assert_allclose(found, by_base(whole, {}, tokens)[0], rtol=1e-4, atol=1e-5)


def test_mixed_precision_inside_multiplies_in_16_bits():
    params, stats = started(lora(mixed_precision(BASE), "layers/.*kernel$", rank=2, alpha=6.0, train="^head/"))
    half = lora(mixed_precision(BASE), "layers/.*kernel$", rank=2, alpha=6.0, train="^head/")
    text = str(jax.make_jaxpr(lambda p, s: half.apply(p, s, X)[0])(params, stats))
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 7 and all("bf16" in line for line in products)
    exact, rounded = (np.asarray(jax.jit(model.apply)(params, stats, X)[0]) for model in (TUNED, half))
    assert 0 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


class Bare(nnx.Module):
    """A linear layer whose input has a wider dtype than its kernel, with the dtype of its products."""

    def __init__(self, dtype, rngs):
        self.up = Linear(3, 4, dtype=dtype, param_dtype=jnp.bfloat16, rngs=rngs)

    def __call__(self, x, *, train, rngs=None):
        return self.up(x)


@pytest.mark.parametrize(("dtype", "expected"), [(None, jnp.float32), (jnp.bfloat16, jnp.bfloat16)])
def test_factors_are_promoted_as_kernels_are(dtype, expected):
    base = from_nnx(lambda rngs: Bare(dtype, rngs))
    tuned, x = lora(base, "kernel", rank=1), jnp.ones((2, 5, 3), jnp.float32)
    found = jax.jit(tuned.apply)(*initial(tuned), x)[0]
    assert found.dtype == expected
    np.testing.assert_array_equal(found, jax.jit(base.apply)(*initial(base), x)[0])


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (BASE, ("layers/0/kernal",), "pattern 'layers/0/kernal' matches no parameter. Did you mean 'layers/0/kernel'"),
        (BASE, ("kernel", 1, "hed"), "train 'hed' matches no parameter"),
        (BASE, ("layers/0",), r"matches 'layers/0/bias' of shape float32\[16\]; expected only kernels"),
        (BASE, ("kernel", 5), r"lora\(rank=5\): expected 1 to 4 for 'head/kernel'"),
        (BASE, ("kernel", 0), r"lora\(rank=0\): expected 1 to"),
        (BASE, ("kernel", 1, "head"), "both match 'head/kernel'"),
        (frozen(BASE, "head"), ("kernel", 1), "already has the stats entry 'frozen'"),
    ],
)
def test_errors(model, arguments, message):
    pattern, rank, train = (*arguments, *(1, None)[len(arguments) - 1 :])
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lora(model, pattern, rank=rank, train=train).init, KEY)


def test_merging_without_factors_is_an_error():
    with pytest.raises(UserError, match="no entry 'frozen'"):
        merged({}, {})
