import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Trained
from research.decoding.beam import beam_search
from research.decoding.decoder import recomputed
from research.decoding.rules import repetition
from research.decoding.sampling import generate
from research.errors import UserError
from tests.decoding.gpt2 import TRUTH, gpt2
from tests.truth.transformers_logits import BEAMS, END, LENGTHS, PROMPTS

GPT2 = recomputed(gpt2())
COUNT = 8


def test_greedy_tokens_equal_those_of_transformers():
    options = dict(lengths=LENGTHS, count=COUNT)
    found = jax.jit(lambda d: generate(d, PROMPTS, **options).tokens)(GPT2)
    np.testing.assert_array_equal(found, TRUTH["greedy"])
    rules = (repetition(1.5),)
    found = jax.jit(lambda d: generate(d, PROMPTS, rules=rules, end=END, **options).tokens)(GPT2)
    np.testing.assert_array_equal(found, TRUTH["greedy_repetition"])


@pytest.mark.parametrize(("beams", "penalty"), BEAMS)
def test_beams_equal_those_of_transformers(beams, penalty):
    options = dict(lengths=LENGTHS, count=COUNT, beams=beams, end=END, length_penalty=penalty)
    found = jax.jit(lambda d: beam_search(d, PROMPTS, **options))(GPT2)
    np.testing.assert_allclose(found.scores, TRUTH[f"scores_{beams}_{penalty}"], rtol=1e-4)
    np.testing.assert_array_equal(found.tokens, TRUTH[f"beams_{beams}_{penalty}"])


@pytest.mark.parametrize("penalty", [0.0, 1.0, -1.0])
def test_with_enough_beams_the_search_is_exhaustive(penalty):
    """Every continuation of up to four tokens of three, the end token among them, has its exact score and rank."""
    end, count = 2, 4
    table = 2 * np.random.default_rng(2).normal(size=(count + 1, 3, 3)).astype(np.float32)
    log_p = np.log(np.exp(table) / np.exp(table).sum(-1, keepdims=True))
    complete = [
        row
        for size in range(1, count + 1)
        for row in itertools.product(range(3), repeat=size)
        if end not in row[:-1] and (row[-1] == end or size == count)
    ]

    def score(row):
        pairs = enumerate(itertools.pairwise([1, *row]))
        return sum(log_p[i, a, b] for i, (a, b) in pairs) / len(row) ** penalty

    ranked = sorted(complete, key=score, reverse=True)
    # The logits depend on the place too: two orders of the same pairs of tokens then differ in their scores.
    network = lambda params, stats, tokens, *, train=False: (params[jnp.arange(tokens.shape[1]), tokens], {})
    decoder = recomputed(Trained(network, jnp.asarray(table), {}))
    options = dict(lengths=np.array([1]), count=count, beams=len(ranked), end=end, length_penalty=penalty)
    found = jax.jit(lambda d: beam_search(d, np.array([[1]]), **options))(decoder)
    np.testing.assert_allclose(found.scores[0], [score(row) for row in ranked], rtol=1e-5)
    expected = [[*row, *[end] * (count - len(row))] for row in ranked]
    np.testing.assert_array_equal(found.tokens[0], expected)


def test_the_search_goes_on_while_a_longer_sequence_may_have_the_better_score():
    """The end has p = 0.7 at once, or 0.3 is followed by three certain tokens: log(0.3) / 4 exceeds log(0.7) / 1."""
    logits = jnp.log(jnp.array([[0.3, 0.7], *[[1.0, 1e-9]] * 4]))
    network = lambda params, stats, tokens, *, train=False: (jnp.broadcast_to(params, (len(tokens), 5, 2)), {})
    options = dict(lengths=np.array([1]), count=4, beams=1, end=1)
    found = jax.jit(lambda d: beam_search(d, np.array([[0]]), **options))(recomputed(Trained(network, logits, {})))
    assert found.tokens.tolist() == [[[0, 0, 0, 0]]]
    np.testing.assert_allclose(found.scores, np.log(0.3) / 4, rtol=1e-5)


def test_one_beam_is_greedy():
    options = dict(lengths=LENGTHS, count=COUNT)
    both = lambda d: (beam_search(d, PROMPTS, beams=1, **options), generate(d, PROMPTS, **options))
    beams, greedy = jax.jit(both)(GPT2)
    np.testing.assert_array_equal(beams.tokens[:, 0], greedy.tokens)
    with pytest.raises(UserError, match="at least 1"):
        beam_search(GPT2, PROMPTS, beams=0, **options)
