"""The exponential moving average of the weights, kept beside them and evaluated instead of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Average(NamedTuple):
    """What an experiment takes: `memories=(a.memory,)`, `after=(a.after,)`, and `view=a.view` in an Eval."""

    memory: Callable
    after: Callable
    view: Callable


def ema(decay: float, *, name: str = "ema") -> Average:
    """The average m <- decay * m + (1 - decay) * params after every update (Polyak & Juditsky 1992, in its
    exponential form), from the first weights on; early on the decay is held to (1 + t) / (10 + t), so that they
    are forgotten soon.

    Keeps the entry `name` of stats, in f32. With decay 0 the view is the live weights. Batch statistics are the
    live ones, which lag behind by themselves.
    """

    def memory(key, params):
        return {name: jax.tree.map(lambda x: x.astype(jnp.float32), params)}

    def after(state, params):
        t = state.step.astype(jnp.float32)
        rate = jnp.minimum(decay, (1 + t) / (10 + t))
        return {name: jax.tree.map(lambda m, p: rate * m + (1 - rate) * p, state.stats[name], params)}

    def view(state):
        return jax.tree.map(lambda m, p: m.astype(p.dtype), state.stats[name], state.params), state.stats

    return Average(memory, after, view)
