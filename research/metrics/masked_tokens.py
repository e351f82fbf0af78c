"""The measure of a masked language model's evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from research.core import Trained, draw
from research.fields import example_weights, inputs
from research.objectives.masked_tokens import check_rate, corrupt, guessed, maskable


def measure_masked_tokens(
    *, vocabulary: int, mask_token: int, special: Sequence[int] = (), rate: float = 0.15, seed: int = 0
) -> Callable:
    """The measure of an Eval on {"tokens", "segments", "positions"}: loss (nats) and accuracy over hidden tokens.

    Tokens are hidden as in `masked_tokens`, by a key of `seed` and the row's own tokens: the same ones at each
    evaluation, whatever the batch size. Examples of mask 0 do not count.
    """
    how = dict(vocabulary=vocabulary, mask_token=mask_token, rate=check_rate(rate))

    def measure(trained: Trained, batch: Mapping) -> dict:
        tokens, segments, positions = inputs(batch)
        allowed = maskable(tokens, segments, special=special)
        # A checksum that depends on the order; it wraps around.
        places = jnp.arange(1, tokens.shape[1] + 1, dtype=jnp.uint32)
        keys = draw(seed, "masked_tokens", jnp.sum(tokens.astype(jnp.uint32) * places * places, -1))
        found = jax.vmap(lambda key, row, may: corrupt(key, row, allowed=may, **how))(keys, tokens, allowed)
        logits = trained(found.tokens, segments, positions)
        return guessed(logits, tokens, weights=found.chosen * example_weights(batch, len(tokens))[:, None])

    return measure
