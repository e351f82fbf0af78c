"""Prompt tuning against peft, and against the model itself that reads real tokens before a row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Trained
from research.decoding.decoder import cached, recomputed
from research.decoding.sampling import generate
from research.errors import UserError
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.bert import BERT
from research.models.gpt import GPT
from research.models.llama import LLaMA
from research.tree import shapes
from research.wrappers.frozen import frozen
from research.wrappers.prompt import prompt_from, prompted
from tests.models.fresh import fresh
from tests.wrappers.peft import GPT2, PARAMS, TRUTH, close, outputs_and_gradient

SIZES = dict(vocabulary=11, length=16, width=8, depth=2, heads=2, hidden=12)
GPT_SIZES = {name: size for name, size in SIZES.items() if name != "hidden"}
MODELS = {
    "gpt": from_nnx(lambda rngs: GPT(**GPT_SIZES, rngs=rngs)),
    "llama": from_nnx(lambda rngs: LLaMA(**SIZES, stack=Stack, rngs=rngs)),
    "bert": from_nnx(lambda rngs: BERT(**SIZES, masked=True, rngs=rngs)),
    "classifier": from_nnx(lambda rngs: GPT(**GPT_SIZES, num_classes=3, rngs=rngs)),
}
WORDS = (4, 9, 0)
TOKENS = np.random.default_rng(0).integers(11, size=(2, 6))
SEGMENTS = np.array([[1] * 6, [1] * 4 + [0] * 2])


def test_it_equals_peft():
    prompt = TRUTH["prompt/prompt_encoder.default.embedding.weight"]
    tuned = prompted(GPT2, len(prompt))
    logits, gradient = outputs_and_gradient(tuned, {"embed": {"prompt": prompt}}, {"frozen": PARAMS})
    close(logits, TRUTH["prompt/logits"])
    close(gradient["embed"]["prompt"], TRUTH["prompt/gradient/prompt_encoder.default.embedding.weight"])


@jax.jit
def run(trained, *inputs):
    return trained(*inputs)


@functools.cache
def of_words(name):
    """The Trained model, and the same with a prompt that starts as the vectors of WORDS."""
    model = MODELS[name]
    params, stats = fresh(model)
    tuned = prompted(model, len(WORDS))
    like = jax.eval_shape(tuned.init, jax.random.key(0))
    start = prompt_from(WORDS, lambda p, s: (p, {**s, "frozen": params}))
    return Trained(model.apply, params, stats), Trained(tuned.apply, *start(*like))


@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_of_real_tokens_is_these_tokens(name):
    trained, tuned = of_words(name)
    assert shapes(tuned.params) == {"embed/prompt": "float32[3,8]"}
    whole = np.concatenate([np.broadcast_to(WORDS, (2, 3)), TOKENS], 1)
    segments = np.pad(SEGMENTS, ((0, 0), (3, 0)), constant_values=1)
    expected = run(trained, whole, segments, np.broadcast_to(np.arange(9), (2, 9)))
    expected = expected if name == "classifier" else expected[:, 3:]
    positions = np.broadcast_to(np.arange(6), (2, 6)) if name in ("llama", "bert") else None
    np.testing.assert_allclose(run(tuned, TOKENS, SEGMENTS, positions), expected, rtol=1e-5, atol=1e-6)


def test_token_types_of_the_prompt_are_0():
    trained, tuned = of_words("bert")
    types = np.array([[0] * 3 + [1] * 3] * 2)
    whole, pad = np.concatenate([np.broadcast_to(WORDS, (2, 3)), TOKENS], 1), ((0, 0), (3, 0))
    found, expected = run(tuned, TOKENS, None, None, types), run(trained, whole, None, None, np.pad(types, pad))
    np.testing.assert_allclose(found, expected[:, 3:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_with_a_cache_it_generates_the_tokens_of_the_model(name):
    trained, tuned = of_words(name)
    lengths = np.array([6, 4])
    whole = np.concatenate([np.broadcast_to(WORDS, (2, 3)), TOKENS], 1)
    expected = jax.jit(lambda t: generate(recomputed(t), whole, lengths=lengths + 3, count=5))(trained)
    found = jax.jit(lambda t: generate(cached(t), TOKENS, lengths=lengths, count=5))(tuned)
    np.testing.assert_array_equal(found.tokens, expected.tokens)


def test_the_numbers_of_virtual_tokens_stay_out_of_range():
    _, tuned = of_words("gpt")
    found = run(tuned, np.array([[10], [11], [-1], [13]]))
    np.testing.assert_array_equal(np.isnan(found).all((1, 2)), [False, True, True, True])
    assert np.isfinite(found[0]).all()


def test_it_begins_with_the_size_of_the_embedding():
    base = from_nnx(lambda rngs: GPT(vocabulary=200, length=4, width=64, depth=1, heads=1, rngs=rngs))
    prompt = prompted(base, 100).init(jax.random.key(0))[0]["embed"]["prompt"]
    np.testing.assert_allclose(prompt.std(), 0.02, rtol=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: prompted(GPT2, 0), r"prompted\(length=0\); expected at least 1"),
        (lambda: prompted(GPT2, 2, embedding="embeding"), "embedding 'embeding' matches no parameter. Did you mean"),
        (lambda: prompted(GPT2, 2, embedding="embedding"), "matches 'embed/embedding' and 'place/embedding'"),
        (lambda: prompted(GPT2, 2, train="hed"), "prompted: train 'hed' matches no parameter"),
        (lambda: prompted(frozen(GPT2, "^blocks"), 2), "already has the stats entry 'frozen'"),
        (lambda: prompted(prompted_name(), 2), "already has a parameter 'embed/prompt'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(make().init, jax.random.key(0))


def prompted_name():
    """A model with a parameter of the name that the prompt needs."""

    def init(key):
        params, stats = GPT2.init(key)
        return {**params, "embed": {**params["embed"], "prompt": jnp.zeros(3)}}, stats

    return GPT2._replace(init=init)


@pytest.mark.parametrize(
    ("words", "load", "message"),
    [
        ((1, 2), {"frozen": PARAMS}, "2 tokens for a prompt of 3; expected as many"),
        ((1, 2, 31), {"frozen": PARAMS}, "the token 31 is none of the vocabulary; expected 0 to 30"),
        ((1, 2, 3), {}, "init_from= does not load the embedding"),
    ],
)
def test_errors_of_its_start(words, load, message):
    like = jax.eval_shape(prompted(GPT2, 3).init, jax.random.key(0))
    with pytest.raises(UserError, match=message):
        prompt_from(words, lambda params, stats: (params, {**stats, **load}))(*like)
    with pytest.raises(UserError, match="the model has no prompt"):
        prompt_from(words, lambda params, stats: (params, stats))(PARAMS, {})
