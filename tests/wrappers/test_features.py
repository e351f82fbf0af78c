"""A model on frozen features is the model on these features, with the same gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from research.layers.stack import Stack
from research.model import from_nnx
from research.models.bags import BagClassifier
from research.models.gpt import GPT
from research.models.llama import LLaMA
from research.tree import shapes
from research.wrappers.features import frozen_features
from tests.models.fresh import fresh

SIZES = dict(vocabulary=9, length=8, width=8, depth=2, heads=2)
TOKENS = np.random.default_rng(0).integers(9, size=(4, 8))
SEGMENTS = (np.arange(8) < np.array([[8], [5], [1], [3]])).astype(np.int32)
HEAD = from_nnx(lambda rngs: BagClassifier(8, hidden=(5,), attention_width=3, dropout=0.5, rngs=rngs))


def real(states, tokens, segments):
    return jnp.where(segments[..., None] > 0, states, jnp.nan)


def test_it_is_the_model_on_the_states_of_the_tokens():
    encoder = from_nnx(lambda rngs: GPT(**SIZES, states=True, dropout=0.5, rngs=rngs))
    model = frozen_features(encoder, HEAD, select=real)
    params, stats = fresh(model)
    assert set(params) == {"model"} and shapes(stats["frozen"]["encoder"]) == shapes(fresh(encoder)[0])
    states = jax.jit(encoder.apply)(stats["frozen"]["encoder"], {}, TOKENS, SEGMENTS)[0]
    states = real(states, TOKENS, SEGMENTS)
    key = jax.random.key(1)

    def found(params):
        return model.apply(params, stats, TOKENS, SEGMENTS, key=key, train=True)[0].sum()

    def expected(params):
        return HEAD.apply(params["model"], {}, states, key=key, train=True)[0].sum()

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, *(jax.jit(jax.value_and_grad(f))(params) for f in (found, expected)))


def test_states_are_those_before_the_output_layer():
    for kind, sizes in ((GPT, SIZES), (LLaMA, {**SIZES, "hidden": 7, "tied": True, "stack": Stack})):
        logits, states = (from_nnx(lambda rngs, s=s: kind(**sizes, states=s, rngs=rngs)) for s in (False, True))  # noqa: B023
        params, _ = fresh(logits)
        found = jax.jit(states.apply)(params, {}, TOKENS)[0] @ params["embed"]["embedding"].T
        np.testing.assert_allclose(found, jax.jit(logits.apply)(params, {}, TOKENS)[0], rtol=1e-4, atol=1e-4)
