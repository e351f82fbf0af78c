"""What an environment is: two pure functions, `reset` and `step`, and what the agent sees of a state.

One environment at a time, without a batch axis: whoever plays many at once vmaps. An environment holds nothing;
its whole state is an array, or a plain dict of arrays, that the caller keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from research.axes import Array, Bool, Float, Int, Key, Shaped
from research.core import Tree
from research.errors import UserError


class Transition(NamedTuple):
    """One step: the state after it, what the agent sees there, the reward, and whether the episode is over.

    `terminated`: the task ended, no reward can follow. `truncated`: only the clock ran out, and a value must be
    bootstrapped from `observation`, which is the last one of the old episode: `step` never resets by itself.
    """

    state: Tree
    observation: Shaped[Array, "*observation"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Environment(NamedTuple):
    """`reset(key) -> state`, `step(state, action, key) -> Transition`, `observe(state) -> observation`.

    Actions are the numbers 0 to num_actions - 1. Observations of the state after a step and of a fresh one have
    the same shape and dtype; rewards are f32.
    """

    reset: Callable[[Key[Array, ""]], Tree]
    step: Callable[[Tree, int | Int[Array, ""], Key[Array, ""]], Transition]
    observe: Callable[[Tree], Shaped[Array, "*observation"]]
    num_actions: int


def time_limit(environment: Environment, steps: int) -> Environment:
    """The environment, truncated at the `steps`-th step of an episode (gymnasium's TimeLimit).

    Its state is {"inner": the environment's state, "time": steps taken, i32}; the time is not observed. A step may
    be terminated and truncated at once. Raises UserError for a limit below 1.
    """
    if steps < 1:
        raise UserError(f"a time limit of {steps} steps; expected at least 1.")

    def reset(key: Key[Array, ""]) -> Tree:
        return {"inner": environment.reset(key), "time": jnp.int32(0)}

    def step(state: Tree, action: int | Int[Array, ""], key: Key[Array, ""]) -> Transition:
        moved = environment.step(state["inner"], action, key)
        time = state["time"] + 1
        after = {"inner": moved.state, "time": time}
        return moved._replace(state=after, truncated=moved.truncated | (time >= steps))

    return environment._replace(reset=reset, step=step, observe=lambda state: environment.observe(state["inner"]))
