"""Sample text from a causal language model, token by token, on the device."""

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
    """Complete prompts by sampling: keep the first `lengths` tokens of each row (at least one) and sample the others.

    `trained(tokens)` returns the logits of each next token. The logits of a position must not depend on later tokens;
    the padding of a prompt is then ignored. Temperature 0 selects the most likely token. Each token costs a forward
    pass over the full row, because there is no key-value cache. Use it for samples during training, not for serving.
    """

    def extend(tokens: Integer[Array, "batch time"], position: Integer[Array, ""]):
        logits = trained(tokens)
        next_logits = jnp.take(logits, position, axis=1).astype(jnp.float32)
        if temperature:
            sampled = jax.random.categorical(draw(key, position), next_logits / temperature)
        else:
            sampled = next_logits.argmax(-1)
        next_tokens = jnp.where(position + 1 < lengths, tokens[:, position + 1], sampled)
        return tokens.at[:, position + 1].set(next_tokens.astype(tokens.dtype)), None

    return repeat(extend, prompts, jnp.arange(prompts.shape[1] - 1))[0]
