"""Paraphrase texts by a masked language model: words are replaced by others that fit their context.

Kobayashi 2018 ("Contextual Augmentation"), with a masked language model as in Wu et al. 2019 (arXiv:1812.06705).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from research.axes import Array, Integer, Key
from research.core import Trained, draw
from research.errors import check_range


def infill(
    trained: Trained,
    tokens: Integer[Array, "batch time"],
    *,
    key: Key[Array, ""],
    mask_token: int,
    special: Sequence[int] = (),
    rate: float = 0.15,
    rounds: int = 1,
    temperature: float = 1.0,
) -> Integer[Array, "batch time"]:
    """Replace tokens by samples from a masked language model that does not see them.

    In each of `rounds`, each token is hidden with probability `rate`, and all hidden ones are drawn independently,
    given the others. Tokens 0 (padding) and `special` are never hidden, and never drawn. `trained(tokens)` returns the
    logits [batch, time, vocabulary] of the original tokens. Can be jitted. Raises UserError for a rate outside 0 to 1,
    or a temperature or a number of rounds that is not positive.
    """
    check_range("infill", rate=(rate, 0, 1))
    check_range("infill", temperature=(temperature, 1e-6, float("inf")), rounds=(rounds, 1, float("inf")))
    never = jnp.array([0, *special])
    allowed = ~jnp.isin(tokens, never)
    for number in range(rounds):
        chosen = allowed & jax.random.bernoulli(draw(key, f"hide {number}"), rate, tokens.shape)
        logits = trained(jnp.where(chosen, mask_token, tokens)).astype(jnp.float32) / temperature
        logits = logits.at[..., never].set(-jnp.inf).at[..., mask_token].set(-jnp.inf)
        drawn = jax.random.categorical(draw(key, f"draw {number}"), logits)
        tokens = jnp.where(chosen, drawn, tokens).astype(tokens.dtype)
    return tokens
