"""Losses of sequences without an alignment."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Float, Integer
from research.errors import UserError


def ctc(
    logits: Float[Array, "batch time vocabulary"],
    labels: Integer[Array, "batch outputs"],
    *,
    logit_lengths: Integer[Array, " batch"],
    label_lengths: Integer[Array, " batch"],
    blank: int = 0,
) -> Float[Array, " batch"]:
    """Return -log p(labels | logits), summed over all alignments, in nats (Graves et al. 2006, equation 8).

    An alignment emits a label or `blank` at each step; equal neighbours merge, then blanks vanish. Positions at or
    beyond the lengths are padding. A sequence that cannot be emitted, because it needs more steps than there are, has a
    very large loss (about 1e5). Computed by optax. Raises UserError for a blank outside the vocabulary.
    """
    import optax

    if not 0 <= blank < logits.shape[-1]:
        raise UserError(f"blank={blank} in a vocabulary of {logits.shape[-1]}; expected 0 to {logits.shape[-1] - 1}.")

    def padding(length, lengths):
        return (jnp.arange(length) >= lengths[:, None]).astype(jnp.float32)

    steps, targets = padding(logits.shape[1], logit_lengths), padding(labels.shape[1], label_lengths)
    return optax.ctc_loss(logits.astype(jnp.float32), steps, labels, targets, blank_id=blank)
