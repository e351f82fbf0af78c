"""Target networks: a delayed copy of the weights, so that a bootstrapped loss does not chase its own predictions."""

import jax
import jax.numpy as jnp

from research.errors import UserError
from research.technique import Technique


def target(*, every: int | None = None, tau: float | None = None, name: str = "target") -> Technique:
    """Maintain a delayed copy of the weights, by a periodic hard copy (`every`) or a moving average (`tau`).

    With `every`, the weights are copied after each `every`-th update (Mnih et al. 2015, Algorithm 1). With `tau`, the
    copy moves after every update: target <- (1 - tau) * target + tau * params (Lillicrap et al. 2016, Algorithm 1).
    `State.step` counts the updates, so a resumed run copies at the same steps. Limit: with every=1 or tau=1 the copy
    equals the live weights.

    Effect on `stats`: the entry `name` holds the copy, at first the initial weights. It has the weights' dtypes with
    `every`, and f32 with `tau`, whose small moves would otherwise be lost to rounding. Other stats are not copied:
    batch statistics are the live ones. A loss reads the weights as `ctx.stats[name]`; no gradient flows into them,
    because they are not params. `view` makes an Eval use them.

    Raises UserError unless exactly one of `every` and `tau` is set, every is at least 1, and tau is in (0, 1].
    """
    if (every is None) == (tau is None):
        raise UserError(f"target(every={every}, tau={tau}); set exactly one of every= and tau=.")
    if every is not None and every < 1:
        raise UserError(f"target(every={every}); expected at least 1 update.")
    if tau is not None and not 0 < tau <= 1:
        raise UserError(f"target(tau={tau}); expected more than 0 and at most 1.")

    def memory(key, params):
        return params if tau is None else jax.tree.map(lambda x: x.astype(jnp.float32), params)

    def after(state, params):
        old = state.stats[name]
        if tau is None:
            # `state` is from before the update: its step counts the earlier updates.
            is_due = (state.step + 1) % every == 0
            return {name: jax.tree.map(lambda t, p: jnp.where(is_due, p, t), old, params)}
        return {name: jax.tree.map(lambda t, p: (1 - tau) * t + tau * p.astype(jnp.float32), old, params)}

    def view(state):
        return jax.tree.map(lambda t, p: t.astype(p.dtype), state.stats[name], state.params), state.stats

    return Technique(name, memory=memory, after=after, view=view)
