"""The Markov chain of masked tokens, against probabilities that are counted and multiplied one by one."""

from collections import Counter

import jax
import numpy as np

from research.models.bigram import masked_bigrams

VOCABULARY, MASK = 7, 6
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(1, 6, (5, 9)).astype(np.int32)
SEGMENTS = np.array([[1] * 4 + [2] * 3 + [0] * 2, [1] * 9, [1] * 2 + [2] * 7, [1] * 9, [1] * 9], np.int32)
PLACES = [(i, j) for i in range(5) for j in range(9) if SEGMENTS[i, j]]


def after(left):
    """Witten & Bell 1991, method C: p(w | left) for every w; the unigrams without a left token."""
    single = Counter(int(TOKENS[place]) for place in PLACES)
    unigrams = np.array([(single[w] + 1e-3) / (len(PLACES) + 7e-3) for w in range(VOCABULARY)])
    pairs = Counter(
        int(TOKENS[i, j]) for i, j in PLACES
        if j and SEGMENTS[i, j - 1] == SEGMENTS[i, j] and TOKENS[i, j - 1] == left
    )  # fmt: skip
    if not pairs:
        return unigrams
    return np.array([(pairs[w] + len(pairs) * unigrams[w]) / (pairs.total() + len(pairs)) for w in range(VOCABULARY)])


def posterior(left, seen, right):
    """p(w | left, seen, right), from the chain of w and the corruption 80, 10 and 10 %."""
    p = after(left)
    if right != MASK:
        p = p * np.array([after(w)[right] for w in range(VOCABULARY)])
    p = p * np.array([0.8 if seen == MASK else 0.1 / VOCABULARY + 0.1 * (w == seen) for w in range(VOCABULARY)])
    return p / p.sum()


def test_it_is_the_posterior_of_the_chain():
    model = masked_bigrams(TOKENS, SEGMENTS, vocabulary=VOCABULARY, mask_token=MASK)
    hidden = np.where(RNG.random(TOKENS.shape) < 0.3, MASK, TOKENS)
    logits, stats = jax.jit(model.apply)({}, {}, hidden, SEGMENTS, np.zeros_like(TOKENS))
    found = np.asarray(jax.nn.softmax(logits))
    for i, j in PLACES:
        beside = [
            int(hidden[i, k]) if 0 <= k < 9 and SEGMENTS[i, k] == SEGMENTS[i, j] else MASK for k in (j - 1, j + 1)
        ]
        np.testing.assert_allclose(found[i, j], posterior(beside[0], int(hidden[i, j]), beside[1]), rtol=1e-4)
    assert stats == {} and (hidden == MASK)[SEGMENTS > 0].any()


def test_the_probabilities_of_a_row_add_up():
    np.testing.assert_allclose([after(left).sum() for left in range(VOCABULARY)], 1)
