"""A Step wrapper that plays environments, builds batches from the transitions, and takes optimizer steps on them.

    round:  rollout -> batches -> many(step, updates)

The states of the environments are one entry of `stats`, thus checkpoints include them. Every random number derives from
(seed, salt, step), therefore an interrupted run resumes exactly.
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
    """The transitions of several steps in several environments.

    `next_observation` follows the action, before any reset: after an episode's last step it is that episode's last
    observation, while `observation` of the next row is the first of a new episode. `notes` are those of the policy.
    """

    observation: Shaped[Array, "time environments *observation"]
    action: Int[Array, "time environments"]
    reward: Float[Array, "time environments"]
    terminated: Bool[Array, "time environments"]
    truncated: Bool[Array, "time environments"]
    next_observation: Shaped[Array, "time environments *observation"]
    notes: PyTree[Shaped[Array, "time environments ..."]]


class Experience(NamedTuple):
    """The result of `batches(state, trajectory, key=key)`: the changed stats entries, and the training batches.

    The leading axis of `batches` has one batch per optimizer step.
    """

    stats: Tree
    batches: PyTree[Shaped[Array, "steps batch ..."]]


def episodes(environment: Environment, count: int, *, name: str = "episodes") -> Technique:
    """Return the Technique that stores the states of `count` environments, initialised by `reset`.

    For each environment, the stats entry holds its "state", and the "return" (f32) and "length" (i32) of the current
    episode.
    """

    def memory(key, params):
        states = jax.vmap(environment.reset)(draw(key, jnp.arange(count)))
        return {"state": states, "return": jnp.zeros(count), "length": jnp.zeros(count, jnp.int32)}

    return Technique(name, memory=memory)


def environment_ids(count: int) -> data.Batches:
    """Return the training source of a run that makes its own data: batches {"environment": 0 to count - 1}.

    The numbers identify the environments, and are split over devices like the examples of a batch.
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
    """Return a Step that plays before it learns, for Experiment.transform.

    The `stride` must be a multiple of `updates`; a call makes stride / updates rounds. Each round plays `length` steps
    in every environment of the stats entry `name` (see `episodes`) with `policy(params, ctx)` (see
    research.rl.policies). It passes the Trajectory to `batches(state, trajectory, key=key)`, and takes `updates`
    optimizer steps on the Experience. A finished episode is reset at once. The training source is `environment_ids`.

    Adds the metrics `return` (undiscounted) and `length` (steps): Means over the episodes that ended, of weight 0 if
    none ended. In stats, changes the entry `name` and the entries of the Experience. If the batches do not depend on
    the play, it equals many(step, updates).

    Raises UserError, while tracing, if the entry is missing, if the stride is not a multiple of `updates`, or if the
    number of batches is not `updates`.
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
        counts = {len(x) for x in jax.tree.leaves(stacked)}
        if counts != {updates}:
            raise UserError(f"acting needs updates={updates} batches per round; got {sorted(counts)}.")
        state, learned = learn(state._replace(stats=overlay(state.stats, changed)), stacked)
        return state, {**learned, **metrics}

    def steps(state, turns):
        rows = turns["environment"]
        rows = rows if rows.ndim == 2 else rows[None]  # a stride of 1 is not stacked
        if len(rows) % updates:
            raise UserError(f"a stride of {len(rows)} is not a multiple of the {updates} optimizer steps per round.")
        state, metrics = repeat(one_round, state, rows[::updates], length=len(rows) // updates)
        return state, jax.tree.map(lambda x: x.sum(0), metrics)

    return steps


class Rollout(NamedTuple):
    """The environments' stats entry after the play, the transitions, and the metrics of the episodes that ended."""

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
    """Play `length` steps in each environment of stats[name], with the params of `state` throughout.

    `rows` are the numbers of the environments; each environment derives its random keys from its number.
    """

    def one_step(entry, key):
        observation = jax.vmap(environment.observe)(entry["state"])
        ctx = Ctx({"observation": observation}, state.stats, draw(key, "policy"), state.step)
        action, notes = policy(state.params, ctx)
        result = jax.vmap(environment.step)(entry["state"], action, draw(key, "environment", rows))
        done = result.terminated | result.truncated
        reset_state = jax.vmap(environment.reset)(draw(key, "reset", rows))
        total, count = entry["return"] + result.reward, entry["length"] + 1
        after = {
            "state": jax.tree.map(lambda new, old: _select(done, new, old), reset_state, result.state),
            "return": jnp.where(done, 0, total),
            "length": jnp.where(done, 0, count),
        }
        record = Trajectory(
            observation, action, result.reward, result.terminated, result.truncated, result.observation, notes
        )
        ended = done.astype(jnp.float32)
        return after, (record, jnp.stack([ended, ended * total, ended * count]).sum(-1))

    entry, (trajectory, ended) = repeat(one_step, state.stats[name], draw(key, "time", jnp.arange(length)))
    finished, returns, lengths = ended.sum(0)
    return Rollout(entry, trajectory, {"return": Mean(returns, finished), "length": Mean(lengths, finished)})


def _select(
    done: Bool[Array, " environments"],
    new: Shaped[Array, " environments *entry"],
    old: Shaped[Array, " environments *entry"],
) -> Shaped[Array, " environments *entry"]:
    return jnp.where(done.reshape(done.shape + (1,) * (new.ndim - 1)), new, old)
