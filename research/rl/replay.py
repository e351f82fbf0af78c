"""Experience replay (Lin 1992; Mnih et al. 2015): the latest transitions, sampled uniformly."""

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
    """Return the Technique of a ring buffer with the last `capacity` transitions.

    Its `use`, for `acting(batches=)`, returns `updates` batches of `size` transitions after every rollout. A batch is
    {observation, action, reward, next_observation, terminated, mask}. Its rows are sampled uniformly with replacement
    from the ring, which includes the newest rollout. While the ring holds fewer than `warm` transitions, the mask is 0
    and nothing is learned. `terminated` does not include truncation, thus a loss bootstraps there.

    The entry `name` of stats holds the `rows` of the five fields [capacity, ...] in their own dtypes, `next` (the
    position of the next rollout, i32) and `held` (the number of filled rows, i32).

    Raises UserError, while tracing, if `capacity` is not a multiple of a rollout's transitions, because a rollout must
    be contiguous in the ring.
    """

    def memory(key, params):
        state = jax.eval_shape(environment.reset, key)
        observation = jax.eval_shape(environment.observe, state)
        row = {
            "observation": observation,
            "action": jax.ShapeDtypeStruct((), jnp.int32),
            "reward": jax.ShapeDtypeStruct((), jnp.float32),
            "next_observation": observation,
            "terminated": jax.ShapeDtypeStruct((), jnp.bool_),
        }
        rows = {field: jnp.zeros((capacity, *spec.shape), spec.dtype) for field, spec in row.items()}
        return {"rows": rows, "next": jnp.int32(0), "held": jnp.int32(0)}

    def batches(state, trajectory, *, key):
        if name not in state.stats:
            raise unknown("stats entry", name, state.stats)
        ring = push(state.stats[name], trajectory)
        indices = jax.random.randint(draw(key, "replay"), (updates, size), 0, ring["held"])
        mask = jnp.broadcast_to(ring["held"] >= warm, indices.shape).astype(jnp.float32)
        return Experience({name: ring}, {**{field: x[indices] for field, x in ring["rows"].items()}, "mask": mask})

    return Technique(name, memory=memory, use=batches)


def push(ring: Tree, trajectory: Trajectory) -> Tree:
    """Return the ring with a rollout's transitions in place of the oldest, in the order of time."""
    capacity, count = len(ring["rows"]["reward"]), trajectory.reward.size
    if capacity % count:
        raise UserError(f"a replay of {capacity} transitions is not a multiple of the {count} of a rollout.")

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
