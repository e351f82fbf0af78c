"""The measure of a masked language model's evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from research.core import Trained, draw
from research.fields import example_weights, inputs
from research.objectives.masked_tokens import check_rate, corrupt, maskable, token_metrics


def measure_masked_tokens(
    *, vocabulary: int, mask_token: int, special: Sequence[int] = (), rate: float = 0.15, seed: int = 0
) -> Callable:
    """Return the measure of a masked language model's Eval: loss (nats) and accuracy over the hidden tokens.

    Batches hold "tokens", "segments" and "positions". Tokens are hidden as in `masked_tokens`, with a key from `seed`
    and the row's own tokens: each evaluation hides the same tokens, whatever the batch size. Examples of mask 0 do not
    count. Raises UserError unless 0 < `rate` <= 1.
    """
    options = dict(vocabulary=vocabulary, mask_token=mask_token, rate=check_rate(rate))

    def measure(trained: Trained, batch: Mapping) -> dict:
        tokens, segments, positions = inputs(batch)
        allowed = maskable(tokens, segments, special=special)
        # A checksum of each row that depends on the token order; overflow is harmless.
        places = jnp.arange(1, tokens.shape[1] + 1, dtype=jnp.uint32)
        keys = draw(seed, "masked_tokens", jnp.sum(tokens.astype(jnp.uint32) * places * places, -1))
        corrupted = jax.vmap(lambda key, row, ok: corrupt(key, row, allowed=ok, **options))(keys, tokens, allowed)
        logits = trained(corrupted.tokens, segments, positions)
        return token_metrics(logits, tokens, weights=corrupted.chosen * example_weights(batch, len(tokens))[:, None])

    return measure
