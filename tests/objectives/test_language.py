import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from research.core import Ctx, Trained, merge
from research.errors import UserError
from research.fields import targets
from research.metrics.language import measure_language
from research.objectives.language import language

BATCH = {
    "tokens": np.array([[5, 6, 7, 3, 4, 0, 0], [1, 2, 3, 4, 5, 6, 7]]),
    "segments": np.array([[1, 1, 1, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 2]]),
    "positions": np.array([[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 0]]),
}
TABLE = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
# (token, next token) within a document, by hand.
FIRST, SECOND = [(5, 6), (6, 7), (3, 4)], [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]


def bigram(params, stats, tokens, segments, positions, *, key=None, train=False):
    return jnp.asarray(params)[tokens], {}


TRAINED = Trained(bigram, TABLE, {})


def nats(pairs):
    now, following = np.array(pairs).T
    return scipy.special.logsumexp(TABLE[now], -1) - TABLE[now, following]


def run(batch):
    return jax.jit(lambda b: language(bigram)(TABLE, Ctx(b, {}, jax.random.key(0), jnp.int32(0))))(batch)


def test_targets_are_the_next_tokens_of_the_same_document():
    labels, weights = targets(BATCH)
    np.testing.assert_array_equal(weights, [[1, 1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0]])
    pairs = np.stack([BATCH["tokens"], labels], -1)[np.asarray(weights) > 0]
    assert [tuple(pair) for pair in pairs.tolist()] == FIRST + SECOND


def test_the_loss_is_the_mean_over_what_is_predicted():
    value, out = run(BATCH)
    np.testing.assert_allclose(value, nats(FIRST + SECOND).mean(), rtol=1e-6)
    assert out.metrics["loss"].weight == 8
    hits = [int(np.argmax(TABLE[now]) == following) for now, following in FIRST + SECOND]
    np.testing.assert_allclose(out.metrics["accuracy"].value(), np.mean(hits))
    masked, out = run({**BATCH, "mask": np.array([1, 0])})
    np.testing.assert_allclose(masked, nats(FIRST).mean(), rtol=1e-6)
    assert out.metrics["loss"].weight == 3


def test_a_missing_field_is_an_error():
    with pytest.raises(UserError, match="unknown batch field 'segments'"):
        run({name: BATCH[name] for name in ("tokens", "positions")})


def test_measures_merge_over_ragged_batches():
    measure = measure_language(bytes_of=lambda labels: labels < 6, words_of=lambda labels: labels == 6)
    one = jax.jit(lambda batch: measure(TRAINED, batch))
    halves = [one(jax.tree.map(lambda x, i=i: x[i : i + 1], BATCH)) for i in (0, 1)]
    found = {name: float(state.value()) for name, state in merge(*halves).items()}
    expected = np.asarray(nats(FIRST + SECOND))
    np.testing.assert_allclose(found["loss"], expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["perplexity"], np.exp(expected.mean()), rtol=1e-6)
    # Of the eight targets 6 and 7 are no bytes (twice 6, once 7), yet they are part of the text's cost.
    np.testing.assert_allclose(found["bits_per_byte"], expected.sum() / math.log(2) / 5, rtol=1e-6)
    np.testing.assert_allclose(found["byte_perplexity"], np.exp(expected.sum() / 5), rtol=1e-5)
    np.testing.assert_allclose(found["word_perplexity"], np.exp(expected.sum() / 2), rtol=1e-5)
    assert "bits_per_byte" not in jax.eval_shape(measure_language(), TRAINED, BATCH)


def test_nothing_to_predict_is_a_loss_of_zero():
    measured = jax.jit(measure_language(bytes_of=jnp.ones_like))(TRAINED, {**BATCH, "mask": np.zeros(2)})
    assert [float(measured[name].value()) for name in ("loss", "perplexity", "bits_per_byte")] == [0, 1, 0]
