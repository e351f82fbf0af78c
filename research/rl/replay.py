"""Experience replay (Lin 1992; Mnih et al. 2015): the last transitions, drawn from evenly."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.core import draw
from research.errors import UserError, unknown
from research.rl.acting import Experience
from research.rl.environment import Environment


class Replay(NamedTuple):
    """What an experiment takes: `memories=(r.memory,)`, and `batches=r.batches` in `acting`."""

    memory: Callable
    batches: Callable


def replay(
    environment: Environment, *, capacity: int, size: int, updates: int, warm: int = 0, name: str = "replay"
) -> Replay:
    """A ring of the last `capacity` transitions, and `updates` batches of `size` of them after every rollout.

    A batch is {observation, action, reward, next_observation, terminated, mask} [size, ...]; its rows are drawn
    evenly and with replacement from what the ring holds, the newest rollout included. While it holds fewer than
    `warm` transitions the mask is 0: nothing is learnt yet. `terminated` leaves truncation out, so that a loss
    bootstraps there.

    Keeps the entry `name` of stats: the five fields [capacity, ...] in their own dtypes, `next` (where the next
    rollout goes, i32) and `held` (how many rows are filled, i32).

    Raises UserError, while tracing, where `capacity` is no multiple of a rollout's transitions: rollouts lie in the
    ring in one piece.
    """

    def memory(key, params):
        state = jax.eval_shape(environment.reset, key)
        seen = jax.eval_shape(environment.observe, state)
        row = {
            "observation": seen,
            "action": jax.ShapeDtypeStruct((), jnp.int32),
            "reward": jax.ShapeDtypeStruct((), jnp.float32),
            "next_observation": seen,
            "terminated": jax.ShapeDtypeStruct((), jnp.bool_),
        }
        rows = {field: jnp.zeros((capacity, *like.shape), like.dtype) for field, like in row.items()}
        return {name: {"rows": rows, "next": jnp.int32(0), "held": jnp.int32(0)}}

    def batches(state, trajectory, *, key):
        if name not in state.stats:
            raise unknown("stats entry", name, state.stats)
        ring = pushed(state.stats[name], trajectory)
        places = jax.random.randint(draw(key, "replay"), (updates, size), 0, ring["held"])
        mask = jnp.broadcast_to(ring["held"] >= warm, places.shape).astype(jnp.float32)
        return Experience({name: ring}, {**{field: x[places] for field, x in ring["rows"].items()}, "mask": mask})

    return Replay(memory, batches)


def pushed(ring, trajectory):
    """The ring with a rollout's transitions [T, N, ...] in the place of its oldest, in the order of time."""
    capacity, count = len(ring["rows"]["reward"]), trajectory.reward.size
    if capacity % count:
        raise UserError(f"a replay of {capacity} transitions is no multiple of the {count} that a rollout gives.")

    def put(rows, new):
        new = new.reshape(count, *rows.shape[1:]).astype(rows.dtype)
        return jax.lax.dynamic_update_slice_in_dim(rows, new, ring["next"], 0)

    rows = {field: put(x, getattr(trajectory, field)) for field, x in ring["rows"].items()}
    return {
        "rows": rows,
        "next": (ring["next"] + count) % capacity,
        "held": jnp.minimum(ring["held"] + count, capacity),
    }
