"""A cache changes the cost of a token, and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Trained
from research.decoding.decoder import cached, recomputed
from research.decoding.rules import temperature
from research.decoding.sampling import generate
from research.errors import UserError
from research.layers.attention import causal_mask, full_mask
from research.layers.ring import ring_attention
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.gpt import GPT
from research.models.llama import LLaMA
from research.models.lstm import LSTM
from tests.decoding.gpt2 import TRUTH, gpt2
from tests.models.fresh import fresh
from tests.truth.transformers_logits import LENGTHS, PROMPTS

SIZES = dict(vocabulary=12, length=24, width=16, depth=2, heads=2)
LLAMA = dict(SIZES, hidden=24, heads=4, kv_heads=2)
MODELS = {
    "gpt": (GPT, SIZES),
    "gpt-stacked-window": (GPT, dict(SIZES, stack=Stack, mask=functools.partial(causal_mask, window=3))),
    "llama": (LLaMA, LLAMA),
    "llama-window": (LLaMA, dict(LLAMA, window=3, qk_norm=True)),
    "lstm": (LSTM, dict(vocabulary=12, width=16)),
}
COUNT = 12
END = 5


@functools.cache
def network(name) -> Trained:
    kind, sizes = MODELS[name]
    model = from_nnx(lambda rngs: kind(**sizes, rngs=rngs))
    params, stats = fresh(model)
    # Larger weights, so that each logit depends visibly on all tokens.
    return Trained(model.apply, jax.tree.map(lambda x: x * 2 if x.ndim > 1 else x, params), stats)


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_equal_those_without_a_cache(name):
    """Prompts of different lengths, then tokens one by one, then several at once."""
    trained, rng = network(name), np.random.default_rng(0)
    tokens = rng.integers(12, size=(3, COUNT + 4))
    lengths = jnp.asarray(LENGTHS)

    @jax.jit
    def logits(trained, tokens):
        whole = trained(tokens)
        decoder = cached(trained)
        prompts = jnp.where(jnp.arange(4) < lengths[:, None], tokens[:, :4], 7)
        state, first = decoder.start(trained, prompts, lengths=lengths, room=COUNT)
        following = jax.vmap(lambda row, n: jax.lax.dynamic_slice(row, (n,), (COUNT,)))(tokens, lengths)
        state, after = jax.lax.scan(functools.partial(decoder.step, trained), state, following[:, :4].T)
        _, rest = decoder.extend(trained, state, following[:, 4:])
        found = jnp.concatenate([first[:, None], after.swapaxes(0, 1), rest], 1)
        expected = jax.vmap(lambda row, n: jax.lax.dynamic_slice(row, (n - 1, 0), (COUNT + 1, 12)))(whole, lengths)
        return found, expected

    found, expected = logits(trained, tokens)
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_tokens_equal_those_without_a_cache(name):
    @jax.jit
    def both(trained, key):
        options = dict(lengths=LENGTHS, count=COUNT, key=key, rules=(temperature(3.0),), end=END)
        return [generate(make(trained), PROMPTS, **options) for make in (cached, recomputed)]

    found, expected = both(network(name), jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert name != "gpt" or len(set(np.asarray(found.lengths).tolist())) > 1  # rows end at different places


def test_a_window_has_a_cache_of_its_size():
    cache = lambda name: jax.eval_shape(
        lambda trained: cached(trained).start(trained, PROMPTS, lengths=LENGTHS, room=COUNT)[0][0], network(name)
    )
    assert cache("llama")[0].k.shape == (3, 2, 16, 4)
    assert cache("llama-window")[0].k.shape == (3, 2, 3, 4)
    assert cache("gpt-stacked-window").k.shape == (3, 2, 2, 3, 8)  # batch, layers, ...


def test_cached_tokens_equal_those_of_transformers():
    found = jax.jit(lambda t: generate(cached(t), PROMPTS, lengths=LENGTHS, count=8).tokens)(gpt2())
    np.testing.assert_array_equal(found, TRUTH["greedy"])


@pytest.mark.parametrize(
    ("options", "room", "message"),
    [
        ({}, 21, "rows of 25 tokens are longer than the model's length of 24"),
        ({"mask": full_mask}, 4, "mask=full_mask"),
        ({"mask": None, "attend": ring_attention}, 4, "mask=None"),
        ({"attend": lambda q, k, v, *, mask: v}, 4, "accepts no cache"),
        ({"experts": {"number": 2}}, 4, "a mixture of experts has no cache"),
    ],
)
def test_networks_that_cannot_use_a_cache_are_errors(options, room, message):
    model = from_nnx(lambda rngs: GPT(**SIZES, **options, rngs=rngs))
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    start = lambda trained: cached(trained).start(trained, PROMPTS, lengths=LENGTHS, room=room)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(start, Trained(model.apply, params, stats))
