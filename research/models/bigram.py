"""A Markov chain of tokens, the baseline of a masked language model."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from research.axes import Array, Integer
from research.core import Model


def masked_bigrams(
    tokens: Integer[Array, "batch time"], segments: Integer[Array, "batch time"], *, vocabulary: int, mask_token: int
) -> Model:
    """Return a Model that predicts hidden tokens from the two tokens beside them, with the counts of training rows.

    The logits of a token w at a position are log p(w | left) + log p(right | w) + log p(seen | w). The first two are
    bigrams, interpolated with unigrams as by Witten & Bell 1991 (method C). A neighbour that is hidden, or in another
    segment, says nothing. The third is the corruption of `objectives.masked_tokens`: a chosen token that is not masked
    was replaced or left unchanged, with equal probabilities. The Model takes (tokens, segments, positions) and has one
    parameter without use: train it for one step with `optax.sgd`.
    """
    same = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    pairs = np.zeros((vocabulary, vocabulary), np.float32)
    np.add.at(pairs, (tokens[:, :-1][same], tokens[:, 1:][same]), 1)
    single = np.bincount(tokens[segments > 0], minlength=vocabulary) + 1e-3  # no logarithm of 0
    kinds = np.maximum((pairs > 0).sum(1, keepdims=True), 1)
    table = np.log((pairs + kinds * single / single.sum()) / (pairs.sum(1, keepdims=True) + kinds))
    after = jnp.asarray(table, jnp.float32)  # [left, token]; the row of the mask has the unigrams
    before = after.T.at[mask_token].set(0)  # [right, token]
    beside = lambda x, by: jnp.roll(jnp.pad(x, ((0, 0), (1, 1))), by, 1)[:, 1:-1]

    def apply(params, stats, tokens, segments, positions, **_):
        left, right = (jnp.where(beside(segments, by) == segments, beside(tokens, by), mask_token) for by in (1, -1))
        seen = jnp.log(1 / vocabulary + (jnp.arange(vocabulary) == tokens[..., None]))
        return after[left] + before[right] + jnp.where(tokens[..., None] == mask_token, 0, seen), stats

    return Model(lambda key: ({"unused": jnp.zeros(())}, {}), apply)
