"""How much better an action turned out than was expected of its state."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Bool, Float
from research.core import repeat


def generalized_advantages(
    rewards: Float[Array, " time *environments"],
    values: Float[Array, " time *environments"],
    next_values: Float[Array, " time *environments"],
    *,
    terminated: Bool[Array, " time *environments"],
    truncated: Bool[Array, " time *environments"],
    discount: float,
    gae_lambda: float,
) -> Float[Array, " time *environments"]:
    """Generalised advantage estimation, in f32 (Schulman et al. 2016, equation 16).

        delta_t = r_t + discount * V(s_t+1) - V(s_t),  A_t = delta_t + discount * gae_lambda * A_t+1

    `next_values` are those of the state that the action led to, before any reset. V(s_t+1) is 0 if `terminated`; if
    `truncated` it stays (Pardo et al. 2018): the task would have gone on. Either ends the sum, as does the last row.
    With gae_lambda 0 the advantage is the error of one step, with gae_lambda 1 the discounted return less V(s_t).
    """
    going = 1 - terminated.astype(jnp.float32)
    same = going * (1 - truncated.astype(jnp.float32))
    errors = rewards + discount * going * next_values - values

    def back(later, row):
        error, same = row
        advantage = error + discount * gae_lambda * same * later
        return advantage, advantage

    errors = errors.astype(jnp.float32)
    _, advantages = repeat(back, jnp.zeros_like(errors[0]), (errors[::-1], same[::-1]))
    return advantages[::-1]
