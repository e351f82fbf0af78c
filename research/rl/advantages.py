"""Advantages: how much better an action was than expected in its state."""

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
    """Compute generalised advantage estimates in f32 (Schulman et al. 2016, equation 16).

        delta_t = r_t + discount * V(s_t+1) - V(s_t),  A_t = delta_t + discount * gae_lambda * A_t+1

    `next_values` are the values of the states after the actions, before any reset. V(s_t+1) counts as 0 if
    `terminated`. It counts fully if `truncated` (Pardo et al. 2018), because the task would have continued. The sum
    ends at either, and at the last row. With gae_lambda 0 the advantage is the one-step error; with gae_lambda 1 it is
    the discounted return minus V(s_t).
    """
    not_terminated = 1 - terminated.astype(jnp.float32)
    same_episode = not_terminated * (1 - truncated.astype(jnp.float32))
    errors = rewards + discount * not_terminated * next_values - values

    def accumulate(later, row):
        error, same_episode = row
        advantage = error + discount * gae_lambda * same_episode * later
        return advantage, advantage

    errors = errors.astype(jnp.float32)
    _, advantages = repeat(accumulate, jnp.zeros_like(errors[0]), (errors[::-1], same_episode[::-1]))
    return advantages[::-1]
