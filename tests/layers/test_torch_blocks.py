"""Blocks against PyTorch and transformers: values, and gradients for the inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.layers import activations, rotary
from research.layers.attention import MultiHeadAttention, attention, causal_mask
from research.layers.layer_norm import layer_norm
from research.layers.relative_bias import RelativeBias, relative_buckets
from research.layers.rms_norm import rms_norm
from research.layers.transformer import Block, FeedForward
from research.model import from_nnx
from tests.truth import load

TRUTH = load("torch_blocks")
INIT = nnx.initializers.zeros_init()
VISIBLE = ~TRUTH["padding"][:, None, None]


def stored(name):
    """(inputs, weights) of a block."""
    inputs = [TRUTH[f"{name}/inputs/{i}"] for i in range(2) if f"{name}/inputs/{i}" in TRUTH]
    start = f"{name}/weights/"
    return inputs, {key.removeprefix(start): value for key, value in TRUTH.items() if key.startswith(start)}


def compare(name, function, inputs, *, atol=2e-6):
    """Compare the value and the gradients of sum(sin(value)) with those stored."""

    @jax.jit
    def both(*inputs):
        loss = lambda *args: jnp.sum(jnp.sin(function(*args)))
        return function(*inputs), jax.grad(loss, tuple(range(len(inputs))))(*inputs)

    value, gradients = both(*inputs)
    np.testing.assert_allclose(value, TRUTH[f"{name}/value"], atol=atol, rtol=1e-5)
    for i, gradient in enumerate(gradients):
        expected = TRUTH[f"{name}/gradients/{i}"]
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(gradient, expected, atol=10 * atol, rtol=1e-4)


def linear(weights, name):
    """The params of a linear layer."""
    return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}


def norm(weights, name):
    return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}


def multihead(weights, name=""):
    """The params of a MultiHeadAttention from those of nn.MultiheadAttention: fused, or three matrices."""
    if f"{name}in_proj_weight" in weights:
        kernels = np.split(weights[f"{name}in_proj_weight"], 3)
    else:
        kernels = [weights[f"{name}{n}_proj_weight"] for n in "qkv"]
    biases = np.split(weights[f"{name}in_proj_bias"], 3)
    params = {n: {"kernel": k.T, "bias": b} for n, k, b in zip("qkv", kernels, biases, strict=True)}
    return {**params, "out": linear(weights, f"{name}out_proj")}


def applied(build, params, **options):
    """The module of `build(rngs)` with these params, as a function of its inputs."""
    model = from_nnx(build)
    shapes = jax.tree.map(lambda x: x.shape, jax.eval_shape(model.init, jax.random.key(0))[0])
    assert jax.tree.map(lambda x: x.shape, params) == shapes

    class Bound(nnx.Module):
        def __init__(self, rngs):
            self.inner = build(rngs)

        def __call__(self, *inputs, train, rngs=None):
            names = ("memory",) * (len(inputs) - 1)
            return self.inner(inputs[0], **dict(zip(names, inputs[1:], strict=True)), **options, train=train)

    bound = from_nnx(Bound)
    return lambda *inputs: bound.apply({"inner": params}, {}, *inputs)[0]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("gelu", activations.gelu), ("gelu_new", activations.gelu_tanh), ("quick_gelu", activations.quick_gelu),
        ("relu2", activations.squared_relu), ("silu", jax.nn.silu), ("mish", jax.nn.mish), ("relu", jax.nn.relu),
        ("hardswish", jax.nn.hard_swish), ("hardsigmoid", jax.nn.hard_sigmoid), ("hardtanh", jax.nn.hard_tanh),
    ],
)  # fmt: skip
def test_an_activation(name, function):
    (x,), _ = stored(f"activation/{name}")
    compare(f"activation/{name}", function, [x])


@pytest.mark.parametrize("name", ["layer_norm", "layer_norm_far", "layer_norm_unbiased", "rms_norm"])
def test_a_norm(name):
    (x,), weights = stored(name)
    function = rms_norm if name == "rms_norm" else layer_norm
    compare(
        name,
        lambda x: function(x, *weights.values(), epsilon=1e-5),
        [x],
        atol=2e-5 if name == "layer_norm_far" else 2e-6,
    )


def test_attention_to_itself_under_a_causal_mask():
    inputs, weights = stored("attention")
    build = lambda rngs: MultiHeadAttention(8, heads=2, kernel_init=INIT, rngs=rngs)
    compare("attention", applied(build, multihead(weights), mask=causal_mask(5)), inputs)


def test_attention_to_a_padded_sequence_of_another_width():
    inputs, weights = stored("cross_attention")
    build = lambda rngs: MultiHeadAttention(8, heads=2, memory_width=6, kernel_init=INIT, rngs=rngs)
    compare("cross_attention", applied(build, multihead(weights), mask=VISIBLE), inputs)


def test_grouped_queries_with_a_bias_and_a_scale():
    q, k, v, bias = (TRUTH[f"grouped/inputs/{i}"] for i in range(4))

    def heads_first(q, k, v, bias):
        swapped = (x.swapaxes(1, 2) for x in (q, k, v))
        return attention(*swapped, bias=bias, scale=0.3).swapaxes(1, 2)

    compare("grouped", heads_first, [q, k, v, bias])


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_block(kind, order):
    inputs, weights = stored(f"{kind}_{order}")
    options = dict(heads=2, hidden=12, post_norm=order == "post", epsilon=1e-5, kernel_init=INIT)
    params = {
        "attention": multihead(weights, "self_attn."), "attention_norm": norm(weights, "norm1"),
        "feed_forward": {"up": linear(weights, "linear1"), "down": linear(weights, "linear2")},
        "feed_forward_norm": norm(weights, "norm2"),
    }  # fmt: skip
    if kind == "encoder":
        build = lambda rngs: Block(8, feed_forward={"activation": activations.gelu}, **options, rngs=rngs)
        function = applied(build, params, mask=VISIBLE)
    else:
        feed_forward = {"activation": jax.nn.relu}
        build = lambda rngs: Block(8, cross_attention={}, feed_forward=feed_forward, **options, rngs=rngs)
        cross = multihead(weights, "multihead_attn.")
        params |= {"cross_attention": cross, "cross_attention_norm": norm(weights, "norm2")}
        params["feed_forward_norm"] = norm(weights, "norm3")
        function = applied(build, params, mask=causal_mask(5), memory_mask=VISIBLE)
    compare(f"{kind}_{order}", function, inputs, atol=5e-6)


def test_gated_layers_are_llama_s():
    inputs, weights = stored("gated")
    params = {n: {"kernel": weights[f"{n}_proj.weight"].T} for n in ("gate", "up", "down")}
    build = lambda rngs: FeedForward(
        8, hidden=12, activation=jax.nn.silu, gated=True, use_bias=False, kernel_init=INIT, rngs=rngs
    )  # fmt: skip
    compare("gated", applied(build, params), inputs)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        ("default", None), ("linear", rotary.Linear(4.0)), ("llama3", rotary.Llama3(8.0, length=64)),
        ("yarn", rotary.Yarn(4.0, length=64)),
        ("yarn_short", rotary.Yarn(4.0, length=1024, fast=16, slow=2, attention_factor=1.5)),
    ],
)  # fmt: skip
def test_rotary_positions_are_those_of_transformers(name, scaling):
    inputs, _ = stored(f"rotary/{name}")
    rotate = functools.partial(rotary.rotate, positions=TRUTH["rotary/positions"], base=500.0, scaling=scaling)
    compare(f"rotary/{name}", lambda x: rotate(x.swapaxes(1, 2)).swapaxes(1, 2), inputs, atol=2e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("number", "max_distance"), [(32, 128), (8, 20)])
def test_buckets_of_distances_are_t5_s(bidirectional, number, max_distance):
    options = dict(number=number, max_distance=max_distance, bidirectional=bidirectional)
    found = relative_buckets(TRUTH["buckets/distances"], **options)
    np.testing.assert_array_equal(found, TRUTH[f"buckets/{bidirectional}/{number}/{max_distance}"])


def test_the_bias_is_that_of_the_bucket():
    build = lambda rngs: RelativeBias(3, number=8, max_distance=20, embedding_init=INIT, rngs=rngs)
    table = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

    class Layer(nnx.Module):
        def __init__(self, rngs):
            self.bias = build(rngs)

        def __call__(self, *inputs, train, rngs=None):
            return self.bias(*inputs)

    queries, keys = np.array([5, 0]), np.array([0, 5, 40])
    found, _ = jax.jit(from_nnx(Layer).apply)({"bias": {"embed": {"embedding": table}}}, {}, queries[None], keys[None])
    buckets = dict(zip(TRUTH["buckets/distances"], TRUTH["buckets/True/8/20"], strict=True))
    for i, q in enumerate(queries):
        for j, k in enumerate(keys):
            np.testing.assert_array_equal(found[0, :, i, j], table[buckets[k - q]])
