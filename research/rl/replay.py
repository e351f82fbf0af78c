"""Experience replay (Lin 1992; Mnih et al. 2015): the last transitions, drawn from evenly."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.axes import Array, Shaped
from research.core import Tree, draw
from research.errors import UserError, unknown
from research.rl.acting import Experience, Trajectory
from research.rl.environment import Environment
from research.technique import Technique


def replay(
    environment: Environment, *, capacity: int, size: int, updates: int, warm: int = 0, name: str = "replay"
) -> Technique:
    """A ring of the last `capacity` transitions. Its `use`, for `acting(batches=)`, gives `updates` batches of `size`
    transitions after every rollout.

    A batch is {observation, action, reward, next_observation, terminated, mask}; its rows are drawn evenly and with
    replacement from the ring, the newest rollout included. While it holds fewer than `warm` transitions the mask is 0:
    nothing is learnt yet. `terminated` leaves truncation out, and thus a loss bootstraps there.

    Keeps the entry `name` of stats: the `rows` of the five fields [capacity, ...] in their own dtypes, `next` (the
    place of the next rollout, i32) and `held` (how many rows are filled, i32).

    Raises UserError, while tracing, if `capacity` is no multiple of a rollout's transitions: rollouts lie in the ring
    in one piece.
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
        return {"rows": rows, "next": jnp.int32(0), "held": jnp.int32(0)}

    def batches(state, trajectory, *, key):
        if name not in state.stats:
            raise unknown("stats entry", name, state.stats)
        ring = pushed(state.stats[name], trajectory)
        places = jax.random.randint(draw(key, "replay"), (updates, size), 0, ring["held"])
        mask = jnp.broadcast_to(ring["held"] >= warm, places.shape).astype(jnp.float32)
        return Experience({name: ring}, {**{field: x[places] for field, x in ring["rows"].items()}, "mask": mask})

    return Technique(name, memory=memory, use=batches)


def pushed(ring: Tree, trajectory: Trajectory) -> Tree:
    """The ring with a rollout's transitions in the place of its oldest, in the order of time."""
    capacity, count = len(ring["rows"]["reward"]), trajectory.reward.size
    if capacity % count:
        raise UserError(f"a replay of {capacity} transitions is no multiple of the {count} that a rollout gives.")

    def put(
        rows: Shaped[Array, " places *entry"], new: Shaped[Array, "time environments *entry"]
    ) -> Shaped[Array, " places *entry"]:
        new = new.reshape(count, *rows.shape[1:]).astype(rows.dtype)
        return jax.lax.dynamic_update_slice_in_dim(rows, new, ring["next"], 0)

    rows = {field: put(x, getattr(trajectory, field)) for field, x in ring["rows"].items()}
    return {
        "rows": rows,
        "next": (ring["next"] + count) % capacity,
        "held": jnp.minimum(ring["held"] + count, capacity),
    }
