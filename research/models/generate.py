"""Text from a causal language model, one token after the other, on the device."""

import jax
import jax.numpy as jnp

from research.core import draw, repeat


def generate(apply, params, *, stats, prompts, lengths, key, temperature: float = 1.0):
    """Rows completed by sampling: prompts int [B, T] with `lengths` int [B] tokens given in each -> int [B, T].

    `apply(params, stats, tokens)` gives logits [B, T, V]; what lies behind a position may not change its logits, so
    whatever fills a prompt up to T is ignored. Temperature 0 takes the most likely token. Every token costs a pass
    over the whole row: there is no cache, so this is for samples of a training run, not for serving.
    """

    def extend(tokens, position):
        logits, _ = apply(params, stats, tokens)
        here = jnp.take(logits, position, axis=1).astype(jnp.float32)
        if temperature:
            sampled = jax.random.categorical(draw(key, position), here / temperature)
        else:
            sampled = here.argmax(-1)
        kept = jnp.where(position + 1 < lengths, tokens[:, position + 1], sampled)
        return tokens.at[:, position + 1].set(kept.astype(tokens.dtype)), None

    return repeat(extend, prompts, jnp.arange(prompts.shape[1] - 1))[0]
