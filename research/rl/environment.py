"""The Environment type: two pure functions, `reset` and `step`, and the observation of a state.

Functions handle one environment, without a batch axis; callers that play many environments use vmap. An environment
holds no state: the caller stores its complete state, an array or a plain dict of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from research.axes import Array, Bool, Float, Int, Key, Shaped
from research.core import Tree
from research.errors import UserError


class Transition(NamedTuple):
    """The result of one step: the new state, its observation, the reward, and whether the episode is over.

    `terminated`: the task ended, and no reward can follow. `truncated`: only the time ran out, thus a value must be
    bootstrapped from `observation`. `observation` is always the last of the old episode, because `step` never resets.
    """

    state: Tree
    observation: Shaped[Array, "*observation"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Environment(NamedTuple):
    """An environment as three functions.

        reset(key) -> state
        step(state, action, key) -> Transition
        observe(state) -> observation

    Actions are the integers 0 to num_actions - 1. Observations after a step and after a reset have the same shape and
    dtype. Rewards are f32.
    """

    reset: Callable[[Key[Array, ""]], Tree]
    step: Callable[[Tree, int | Int[Array, ""], Key[Array, ""]], Transition]
    observe: Callable[[Tree], Shaped[Array, "*observation"]]
    num_actions: int


def time_limit(environment: Environment, steps: int) -> Environment:
    """Truncate each episode of an environment at its `steps`-th step, as gymnasium's TimeLimit does.

    The new state is {"inner": the environment's state, "time": steps taken, i32}; the time is not observed. A step may
    be both terminated and truncated. Raises UserError for a limit below 1.
    """
    if steps < 1:
        raise UserError(f"a time limit of {steps} steps; expected at least 1.")

    def reset(key: Key[Array, ""]) -> Tree:
        return {"inner": environment.reset(key), "time": jnp.int32(0)}

    def step(state: Tree, action: int | Int[Array, ""], key: Key[Array, ""]) -> Transition:
        transition = environment.step(state["inner"], action, key)
        time = state["time"] + 1
        after = {"inner": transition.state, "time": time}
        return transition._replace(state=after, truncated=transition.truncated | (time >= steps))

    return environment._replace(reset=reset, step=step, observe=lambda state: environment.observe(state["inner"]))
