"""Prefix tuning against peft, and against the model itself that reads real tokens before a row."""

import functools

import jax
import numpy as np
import pytest

from research.core import Trained
from research.decoding.decoder import cached, recomputed
from research.decoding.sampling import generate
from research.errors import UserError
from research.layers.attention import causal_mask
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.bert import BERT
from research.models.gpt import GPT
from research.models.llama import LLaMA
from research.models.lstm import LSTM
from research.wrappers.frozen import frozen
from research.wrappers.mixed_precision import mixed_precision
from research.wrappers.prefix import prefix_from, prefixed
from tests.models.fresh import fresh
from tests.wrappers.peft import GPT2, PARAMS, TRUTH, close, outputs_and_gradient

SIZES = dict(vocabulary=11, length=16, width=8, depth=2, heads=2)
WINDOW = functools.partial(causal_mask, window=4)
MODELS = {
    "gpt": from_nnx(lambda rngs: GPT(**SIZES, rngs=rngs)),
    "window": from_nnx(lambda rngs: GPT(**SIZES, mask=WINDOW, rngs=rngs)),
    "llama": from_nnx(lambda rngs: LLaMA(**SIZES, kv_heads=1, hidden=12, stack=Stack, rngs=rngs)),
    "classifier": from_nnx(lambda rngs: GPT(**SIZES, num_classes=3, rngs=rngs)),
}
WORDS = (4, 9, 0)
TOKENS = np.random.default_rng(0).integers(11, size=(2, 6))
SEGMENTS = np.array([[1] * 6, [1] * 4 + [0] * 2])


def of_peft(prefix):
    """[virtual, layers * 2 * width] -> our params."""
    length = len(prefix)
    k_v = prefix.reshape(length, 2, 2, 4, 4).transpose(1, 2, 3, 0, 4)  # layers, k or v, heads, virtual, head
    return {"prefix": {str(i): dict(zip("kv", layer, strict=True)) for i, layer in enumerate(k_v)}}


def test_it_equals_peft():
    key = "prompt_encoder.default.embedding.weight"
    params = of_peft(TRUTH[f"prefix/{key}"])
    logits, gradient = outputs_and_gradient(prefixed(GPT2, 3), params, {"frozen": PARAMS})
    close(logits, TRUTH["prefix/logits"])
    jax.tree.map(close, gradient, of_peft(TRUTH[f"prefix/gradient/{key}"]))


@jax.jit
def run(trained, *inputs):
    return trained(*inputs)


@functools.cache
def of_words(name):
    """The Trained model, and the same with a prefix that starts as the keys and values of WORDS."""
    model = MODELS[name]
    params, stats = fresh(model)
    tuned = prefixed(model, len(WORDS))
    like = jax.eval_shape(tuned.init, jax.random.key(0))
    start = prefix_from(WORDS, lambda p, s: (p, {**s, "frozen": params}), model=model)
    return Trained(model.apply, params, stats), Trained(tuned.apply, *start(*like))


@pytest.mark.parametrize("name", MODELS)
def test_a_prefix_of_real_tokens_is_these_tokens(name):
    trained, tuned = of_words(name)
    whole = np.concatenate([np.broadcast_to(WORDS, (2, 3)), TOKENS], 1)
    segments = np.pad(SEGMENTS, ((0, 0), (3, 0)), constant_values=1)
    expected = run(trained, whole, segments)
    cut = lambda x: x if name == "classifier" else np.where(SEGMENTS[..., None] > 0, x[:, -6:], 0)
    positions = np.broadcast_to(np.arange(6), (2, 6)) if name == "llama" else None
    found = run(tuned, TOKENS, SEGMENTS, positions)
    np.testing.assert_allclose(cut(found), cut(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt", "window"])
def test_a_row_of_one_token(name):
    trained, tuned = of_words(name)
    expected = run(trained, np.array([[*WORDS, 7]]))[:, -1:]
    np.testing.assert_allclose(run(tuned, np.array([[7]])), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt", "window", "llama"])
def test_with_a_cache_it_generates_the_tokens_of_the_model(name):
    trained, tuned = of_words(name)
    lengths = np.array([6, 4])
    whole = np.concatenate([np.broadcast_to(WORDS, (2, 3)), TOKENS], 1)
    expected = jax.jit(lambda t: generate(recomputed(t), whole, lengths=lengths + 3, count=5))(trained)
    found = jax.jit(lambda t: generate(cached(t), TOKENS, lengths=lengths, count=5))(tuned)
    np.testing.assert_array_equal(found.tokens, expected.tokens)


def test_mixed_precision_inside_reads_the_prefix_in_16_bits():
    half = prefixed(mixed_precision(MODELS["gpt"]), 3)
    params, stats = fresh(half)
    text = str(jax.make_jaxpr(lambda p, s: half.apply(p, s, TOKENS)[0])(params, stats))
    assert sum("bf16[2,2,9,4] = concatenate" in line for line in text.splitlines()) == 4  # k and v of two blocks
    found, exact = (
        np.asarray(run(Trained(model.apply, params, stats), TOKENS)) for model in (half, prefixed(MODELS["gpt"], 3))
    )
    assert 0 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: prefixed(GPT2, 0), r"prefixed\(length=0\); expected at least 1"),
        (lambda: prefixed(MODELS["window"], 5), r"prefixed\(length=5\): expected at most 4, the window"),
        (lambda: prefixed(GPT2, 13), "rows of 13 tokens are longer than the model's length of 12"),
        (lambda: prefixed(GPT2, 2, train="hed"), "prefixed: train 'hed' matches no parameter"),
        (lambda: prefixed(frozen(GPT2, "^blocks"), 2), "already has the stats entry 'frozen'"),
        (lambda: prefixed(from_nnx(lambda rngs: BERT(**SIZES, rngs=rngs)), 2), "expected a model with a cache"),
        (lambda: prefixed(from_nnx(lambda rngs: LSTM(vocabulary=11, width=8, rngs=rngs)), 2), "holds keys and values"),
    ],
)
def test_errors(make, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(make().init, jax.random.key(0))


def test_a_row_too_long_for_the_model_is_an_error():
    _, tuned = of_words("gpt")
    with pytest.raises(UserError, match="rows of 17 tokens are longer than the model's length of 16"):
        jax.eval_shape(tuned, np.zeros((1, 14), int))


def test_errors_of_its_start():
    like = jax.eval_shape(prefixed(GPT2, 3).init, jax.random.key(0))
    loaded = lambda params, stats: (params, {**stats, "frozen": PARAMS})
    with pytest.raises(UserError, match="2 tokens for a prefix of 3; expected as many"):
        prefix_from((1, 2), loaded, model=GPT2)(*like)
    with pytest.raises(UserError, match="does not load 'blocks/0/attention/k/bias', and the prefix depends on it"):
        prefix_from((1, 2, 3), lambda params, stats: (params, stats), model=GPT2)(*like)
