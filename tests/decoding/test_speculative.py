import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from research.core import Trained
from research.decoding.automaton import constrained, words
from research.decoding.decoder import Decoder, cached, recomputed
from research.decoding.rules import repetition, temperature, top_k
from research.decoding.sampling import generate
from research.decoding.speculative import speculate
from research.errors import UserError
from tests.decoding.gpt2 import gpt2
from tests.decoding.test_cached import network
from tests.truth.transformers_logits import LENGTHS, PROMPTS

COUNT = 12
VOCABULARY, LENGTH, SAMPLES = 3, 3, 20_000


def bigram(seed) -> Decoder:
    """A network whose logits depend on the last token, and which can rewind."""
    table = jnp.asarray(1.5 * np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY)), jnp.float32)
    return Decoder(_start, _step, table, extend=_extend, rewind=_rewind)


def _start(table, prompts, *, lengths, room, rewinds=0):
    return jnp.zeros((len(prompts), 1)), table[prompts[:, 0]]


def _step(table, state, tokens):
    return state, table[tokens]


def _extend(table, state, tokens):
    return state, table[tokens]


def _rewind(table, state, counts):
    return state


def exact(decoder, rule) -> np.ndarray:
    """The probability of every sequence of LENGTH tokens after the token 0."""
    p = np.asarray(jax.nn.softmax(rule.apply((), decoder.variables)), np.float64)
    sequences = itertools.product(range(VOCABULARY), repeat=LENGTH)
    return np.array([np.prod([p[a, b] for a, b in itertools.pairwise([0, *row])]) for row in sequences])


@pytest.mark.parametrize(("rule", "proposals"), [(temperature(1.3), 1), (temperature(1.0), 2), (top_k(2), 4)])
def test_samples_have_the_distribution_of_the_large_network(rule, proposals):
    decoder, draft = bigram(0), bigram(1)
    prompts, lengths = jnp.zeros((SAMPLES, 1), jnp.int32), jnp.ones(SAMPLES, jnp.int32)
    options = dict(lengths=lengths, count=LENGTH, proposals=proposals, rules=(rule,))
    found = jax.jit(lambda a, b, key: speculate(a, prompts, draft=b, key=key, **options))(
        decoder, draft, jax.random.key(0)
    )
    codes = np.asarray(found.tokens) @ VOCABULARY ** np.arange(LENGTH)[::-1]
    counts = np.bincount(codes, minlength=VOCABULARY**LENGTH)
    right, of_draft = exact(decoder, rule), exact(draft, rule)
    assert counts[right == 0].sum() == 0

    def chi_squared(p):
        among = counts[p > 0]
        return stats.chisquare(among, among.sum() * p[p > 0] / p.sum()).pvalue

    assert chi_squared(right) > 1e-3
    assert chi_squared(of_draft) < 1e-9  # the test can tell them apart


def test_the_share_of_accepted_tokens_is_the_overlap_of_the_distributions():
    """One proposal is accepted with the probability sum(min(p, q)): Leviathan et al. 2023, theorem 3.5."""
    decoder, draft = bigram(0), bigram(1)
    prompts, lengths = jnp.zeros((SAMPLES, 1), jnp.int32), jnp.ones(SAMPLES, jnp.int32)
    options = dict(lengths=lengths, count=2, proposals=1, key=jax.random.key(1))
    found = jax.jit(lambda a, b: speculate(a, prompts, draft=b, **options))(decoder, draft)
    p, q = (np.asarray(jax.nn.softmax(d.variables)) for d in (decoder, draft))
    expected = (p[0][:, None] * np.minimum(p, q)).sum()  # the first token comes from p itself
    share = float(found.accepted.sum() / found.proposed.sum())
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / SAMPLES)


@pytest.mark.parametrize(("pair", "rules"), [(("llama-window", "gpt"), (repetition(2.0),)), (("gpt", "gpt"), ())])
def test_greedy_tokens_are_those_of_the_large_network(pair, rules):
    """With ring buffers too, whose overwritten places are forgotten, and rows that end early."""

    @jax.jit
    def both(large, small):
        options = dict(lengths=LENGTHS, count=COUNT, rules=rules, end=5)
        speculated = speculate(cached(large), PROMPTS, draft=cached(small), proposals=2, **options)
        return speculated, generate(cached(large), PROMPTS, **options)

    found, expected = both(*(network(name) for name in pair))
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    assert (found.accepted <= found.proposed).all()
    if pair[0] == pair[1]:
        np.testing.assert_array_equal(found.accepted, found.proposed)


def test_rules_with_a_memory_apply_to_each_token():
    rule = constrained(words([[1, 2, 3, 4], [6, 7]], vocabulary=12), end=5)
    options = dict(lengths=LENGTHS, count=COUNT, proposals=2, rules=(rule,), end=5, key=jax.random.key(0))
    speculated = jax.jit(lambda a, b: speculate(cached(a), PROMPTS, draft=cached(b), **options))
    found = speculated(gpt2(), network("gpt"))
    rows = [tuple(row[:n]) for row, n in zip(*map(np.asarray, found[:2]), strict=True)]
    assert set(rows) <= {(1, 2, 3, 4), (6, 7)}


def test_networks_that_do_not_fit_are_errors():
    large, lstm = gpt2(), network("lstm")
    options = dict(lengths=LENGTHS, count=4)
    with pytest.raises(UserError, match="speculate needs"):
        speculate(cached(large), PROMPTS, draft=recomputed(large), **options)
    with pytest.raises(UserError, match="cannot forget tokens"):
        jax.eval_shape(lambda a, b: speculate(cached(a), PROMPTS, draft=cached(b), **options), large, lstm)
    with pytest.raises(UserError, match="the draft has 3 tokens and the network has 12"):
        jax.eval_shape(lambda a, b: speculate(cached(a), PROMPTS, draft=b, **options), large, bigram(0))
    assert isinstance(lstm, Trained)
