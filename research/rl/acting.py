"""Acting: a Step -> Step that plays, makes batches of what happened, and takes optimizer steps on them.

    round:  rollout -> batches -> many(step, updates)

The states of the environments live in one entry of `stats`, so a checkpoint holds them, and every random number
comes from (seed, salt, step): a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research import data
from research.axes import Array, Bool, Float, Int, Key, PyTree, Shaped
from research.core import Ctx, Mean, State, Step, Tree, draw, many, overlay, repeat
from research.errors import UserError, unknown
from research.rl.environment import Environment
from research.rl.policies import Policy
from research.technique import Technique


class Trajectory(NamedTuple):
    """What happened in some steps of some environments.

    `next_observation` follows the action, before any reset: after an episode's last step it is that episode's last
    observation, while `observation` of the next row is the first of a new one. `notes` are the policy's.
    """

    observation: Shaped[Array, "time environments *observation"]
    action: Int[Array, "time environments"]
    reward: Float[Array, "time environments"]
    terminated: Bool[Array, "time environments"]
    truncated: Bool[Array, "time environments"]
    next_observation: Shaped[Array, "time environments *observation"]
    notes: PyTree[Shaped[Array, "time environments ..."]]


class Experience(NamedTuple):
    """What `batches(state, trajectory, key=key)` gives: the stats entries it changed, and the batches to train on, one
    for each optimizer step.
    """

    stats: Tree
    batches: PyTree[Shaped[Array, "steps batch ..."]]


def episodes(environment: Environment, count: int, *, name: str = "episodes") -> Technique:
    """The states of `count` environments as a Technique, begun by `reset`.

    The entry holds, for each environment, its "state", and "return" (f32) and "length" (i32) of the episode that is
    under way.
    """

    def memory(key, params):
        states = jax.vmap(environment.reset)(draw(key, jnp.arange(count)))
        return {"state": states, "return": jnp.zeros(count), "length": jnp.zeros(count, jnp.int32)}

    return Technique(name, memory=memory)


def turns(count: int) -> data.Batches:
    """The training source of a run that makes its own data: batches {"environment": 0 to count - 1}.

    It says which environments there are, so that they are split over devices as the examples of a batch are.
    """
    return data.batches(data.arrays(environment=np.arange(count, dtype=np.int32)), count, shuffle=False)


def acting(
    step: Step,
    environment: Environment,
    *,
    policy: Policy,
    batches: Callable[..., Experience],
    length: int,
    updates: int,
    name: str = "episodes",
) -> Step:
    """A Step that plays before it learns: for Experiment.transform, with a `stride` of `updates` or its multiples.

    Each round plays `length` steps in every environment of the entry `name` (see `episodes`) with
    `policy(params, ctx)` (see research.rl.policies), gives the Trajectory to `batches(state, trajectory, key=key)`,
    and takes `updates` optimizer steps on the Experience; a call makes stride / updates rounds. A finished episode is
    reset at once. Batches come from `turns`.

    Adds the metrics `return` (undiscounted) and `length` (steps): Means over the episodes that ended, of weight 0 if
    none did. In stats it changes the entry `name` and those of the Experience. If the batches do not depend on the
    play it is many(step, updates).

    Raises UserError, while tracing, if the entry is missing, stride is no multiple of `updates`, or the batches are
    not `updates` many.
    """
    learn = many(step, updates)

    def one_round(state, rows):
        if name not in state.stats:
            raise unknown("stats entry", name, state.stats)
        key = draw(state.seed, "acting", state.salt, state.step)
        played, trajectory, metrics = rollout(
            state, environment, policy=policy, length=length, rows=rows, key=key, name=name
        )
        state = state._replace(stats=overlay(state.stats, {name: played}))
        changed, stacked = batches(state, trajectory, key=draw(key, "batches"))
        found = {len(x) for x in jax.tree.leaves(stacked)}
        if found != {updates}:
            raise UserError(f"acting takes {updates} optimizer steps a round; it was given {sorted(found)} batches.")
        state, learned = learn(state._replace(stats=overlay(state.stats, changed)), stacked)
        return state, {**learned, **metrics}

    def steps(state, turns):
        rows = turns["environment"]
        rows = rows if rows.ndim == 2 else rows[None]  # a stride of 1 is not stacked
        if len(rows) % updates:
            raise UserError(f"a stride of {len(rows)} is no multiple of the {updates} optimizer steps of a round.")
        state, metrics = repeat(one_round, state, rows[::updates], length=len(rows) // updates)
        return state, jax.tree.map(lambda x: x.sum(0), metrics)

    return steps


class Rollout(NamedTuple):
    """The environments' entry after the play, what happened, and the metrics of the episodes that ended."""

    entry: Tree
    trajectory: Trajectory
    metrics: dict[str, Mean]


def rollout(
    state: State,
    environment: Environment,
    *,
    policy: Policy,
    length: int,
    rows: Int[Array, " environments"],
    key: Key[Array, ""],
    name: str = "episodes",
) -> Rollout:
    """`length` steps in each environment of stats[name], with the weights of `state` as they are.

    `rows` are the environments' numbers: each draws its own keys by it.
    """

    def one_step(entry, key):
        observation = jax.vmap(environment.observe)(entry["state"])
        ctx = Ctx({"observation": observation}, state.stats, draw(key, "policy"), state.step)
        action, notes = policy(state.params, ctx)
        moved = jax.vmap(environment.step)(entry["state"], action, draw(key, "environment", rows))
        done = moved.terminated | moved.truncated
        fresh = jax.vmap(environment.reset)(draw(key, "reset", rows))
        total, count = entry["return"] + moved.reward, entry["length"] + 1
        after = {
            "state": jax.tree.map(lambda new, old: _where(done, new, old), fresh, moved.state),
            "return": jnp.where(done, 0, total),
            "length": jnp.where(done, 0, count),
        }
        happened = Trajectory(
            observation, action, moved.reward, moved.terminated, moved.truncated, moved.observation, notes
        )
        ended = done.astype(jnp.float32)
        return after, (happened, jnp.stack([ended, ended * total, ended * count]).sum(-1))

    entry, (trajectory, ended) = repeat(one_step, state.stats[name], draw(key, "time", jnp.arange(length)))
    finished, returns, lengths = ended.sum(0)
    return Rollout(entry, trajectory, {"return": Mean(returns, finished), "length": Mean(lengths, finished)})


def _where(
    done: Bool[Array, " environments"],
    new: Shaped[Array, " environments *entry"],
    old: Shaped[Array, " environments *entry"],
) -> Shaped[Array, " environments *entry"]:
    return jnp.where(done.reshape(done.shape + (1,) * (new.ndim - 1)), new, old)
