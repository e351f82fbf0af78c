"""A target network: a copy of the weights that lags behind them, for losses that would else chase themselves."""

import jax
import jax.numpy as jnp

from research.errors import UserError
from research.technique import Technique


def target(*, every: int | None = None, tau: float | None = None, name: str = "target") -> Technique:
    """The weights copied after each `every`-th update (Mnih et al. 2015, Algorithm 1), or, given `tau` instead, moved
    by target <- (1 - tau) * target + tau * params after every update (Lillicrap et al. 2016, Algorithm 1).

    Keeps the entry `name` of stats: the initial weights at first; in the weights' own dtypes with `every`, in f32
    with `tau` (whose small moves would be rounded away). Nothing else of stats is copied: batch statistics are the
    live ones. With every=1 or tau=1 it is the live weights. Updates are counted by `State.step`, so a resumed run
    copies at the same steps. A loss reads the weights as `ctx.stats[name]`; no gradient flows into them, since they are
    not params. `view` shows them to an Eval.

    Raises UserError unless exactly one of the two is given, every is at least 1, and tau is in (0, 1].
    """
    if (every is None) == (tau is None):
        raise UserError(f"a target takes every= or tau=, one of them; it was given every={every} and tau={tau}.")
    if every is not None and every < 1:
        raise UserError(f"a target copied every {every} updates; expected at least 1.")
    if tau is not None and not 0 < tau <= 1:
        raise UserError(f"a target that moves by tau={tau}; expected more than 0 and at most 1.")

    def memory(key, params):
        return params if tau is None else jax.tree.map(lambda x: x.astype(jnp.float32), params)

    def after(state, params):
        old = state.stats[name]
        if tau is None:
            # `state` is from before the update: its step is the number of updates made earlier.
            now = (state.step + 1) % every == 0
            return {name: jax.tree.map(lambda t, p: jnp.where(now, p, t), old, params)}
        return {name: jax.tree.map(lambda t, p: (1 - tau) * t + tau * p.astype(jnp.float32), old, params)}

    def view(state):
        return jax.tree.map(lambda t, p: t.astype(p.dtype), state.stats[name], state.params), state.stats

    return Technique(name, memory=memory, after=after, view=view)
