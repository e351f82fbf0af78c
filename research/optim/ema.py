"""The exponential moving average of the weights, kept beside them and evaluated instead of them."""

import jax
import jax.numpy as jnp

from research.technique import Technique


def ema(decay: float, *, name: str = "ema") -> Technique:
    """The average m <- decay * m + (1 - decay) * params after every update (Polyak & Juditsky 1992, in its
    exponential form), from the first weights on; early on the decay is held to (1 + t) / (10 + t), so that they
    are forgotten soon.

    `view` is the average. Keeps the entry `name` of stats, in f32. With decay 0 the view is the live weights. Batch
    statistics are the live ones, which lag behind by themselves.
    """

    def memory(key, params):
        return jax.tree.map(lambda x: x.astype(jnp.float32), params)

    def after(state, params):
        t = state.step.astype(jnp.float32)
        rate = jnp.minimum(decay, (1 + t) / (10 + t))
        return {name: jax.tree.map(lambda m, p: rate * m + (1 - rate) * p, state.stats[name], params)}

    def view(state):
        return jax.tree.map(lambda m, p: m.astype(p.dtype), state.stats[name], state.params), state.stats

    return Technique(name, memory=memory, after=after, view=view)
