"""Text from a causal language model, one token after the other, on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.axes import Array, Integer, Key
from research.core import Trained, draw, repeat


def generate(
    trained: Trained,
    *,
    prompts: Integer[Array, "batch time"],
    lengths: Integer[Array, " batch"],
    key: Key[Array, ""],
    temperature: float = 1.0,
) -> Integer[Array, "batch time"]:
    """Rows completed by sampling: the first `lengths` tokens of each prompt are kept, the others are drawn.

    `trained(tokens)` gives logits of each next token. Later tokens may not change the logits of a position, thus the
    fill of a prompt is ignored. Temperature 0 takes the most likely token. Each token costs a pass over the whole row:
    there is no cache. This is for samples of a training run, not for serving.
    """

    def extend(tokens: Integer[Array, "batch time"], position: Integer[Array, ""]):
        logits = trained(tokens)
        here = jnp.take(logits, position, axis=1).astype(jnp.float32)
        if temperature:
            sampled = jax.random.categorical(draw(key, position), here / temperature)
        else:
            sampled = here.argmax(-1)
        kept = jnp.where(position + 1 < lengths, tokens[:, position + 1], sampled)
        return tokens.at[:, position + 1].set(kept.astype(tokens.dtype)), None

    return repeat(extend, prompts, jnp.arange(prompts.shape[1] - 1))[0]
