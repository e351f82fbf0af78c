"""Exact values of a small Markov decision process, in numpy, as a reference for learned values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.axes import Float
from research.errors import UserError


class Values(NamedTuple):
    """The optimal values of states, and of actions in states, as discounted returns."""

    state: Float[np.ndarray, " states"]
    action: Float[np.ndarray, "states actions"]


def value_iteration(
    probabilities: Float[np.ndarray, "states actions states"],
    rewards: Float[np.ndarray, "states actions"],
    *,
    discount: float,
    tolerance: float = 1e-12,
) -> Values:
    """Compute the fixed point of Q(s, a) = r(s, a) + discount * sum_s' p(s' | s, a) max_a' Q(s', a') (Bellman 1957).

    `probabilities` are those of the next state, in f64. In a row with a sum below 1, the missing probability ends the
    episode. The result is within `tolerance` of the fixed point. With discount 0 it is `rewards`.

    Raises UserError unless discount is in [0, 1): with discount 1, an endless episode may have no value.
    """
    if not 0 <= discount < 1:
        raise UserError(f"a discount of {discount} for value iteration; expected at least 0 and less than 1.")
    action, change = rewards, np.max(np.abs(rewards))  # the first iteration, from zeros
    # Each iteration contracts by `discount`, which bounds the remaining distance by this multiple of the last change.
    while change * discount / (1 - discount) > tolerance:
        new = rewards + discount * probabilities @ action.max(-1)
        action, change = new, np.max(np.abs(new - action))
    return Values(action.max(-1), action)
