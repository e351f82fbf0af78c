"""Exponential moving average of the weights, evaluated in place of the live weights."""

import jax
import jax.numpy as jnp

from research.errors import check_range
from research.technique import Technique


def ema(decay: float, *, name: str = "ema") -> Technique:
    """Average the weights after every update: m <- decay * m + (1 - decay) * params.

    This is Polyak & Juditsky 1992 in its exponential form. m starts at the initial weights. Early in training the decay
    is capped at (1 + t) / (10 + t), so that the initial weights are forgotten quickly. Training itself is unchanged;
    `view` shows m. Limit: with decay 0 the view equals the live weights.

    Effect on `stats`: the entry `name` holds m, in f32. Batch statistics in the view are the live ones, which are
    moving averages already.

    Raises UserError for a decay outside 0..1.
    """
    check_range("ema", decay=(decay, 0, 1))

    def memory(key, params):
        return jax.tree.map(lambda x: x.astype(jnp.float32), params)

    def after(state, params):
        t = state.step.astype(jnp.float32)
        capped_decay = jnp.minimum(decay, (1 + t) / (10 + t))
        return {name: jax.tree.map(lambda m, p: capped_decay * m + (1 - capped_decay) * p, state.stats[name], params)}

    def view(state):
        return jax.tree.map(lambda m, p: m.astype(p.dtype), state.stats[name], state.params), state.stats

    return Technique(name, memory=memory, after=after, view=view)
