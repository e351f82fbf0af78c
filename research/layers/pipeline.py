"""Pipeline parallelism: each device holds a stage of layers, and a batch passes through them in microbatches."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from research.axes import Array, PyTree, Shaped
from research.distributed.sharding import BATCH_AXES, constrain, num_shards
from research.errors import UserError


def pipelined(
    through: Callable,
    layers: PyTree[Shaped[Array, "layers ..."]],
    x: PyTree[Shaped[Array, "batch ..."]],
    rows: PyTree[Shaped[Array, "batch ..."]],
    *,
    microbatches: int | None = None,
) -> PyTree[Shaped[Array, "batch ..."]]:
    """Run `through(*layers, x, rows, part)` with the leading axis of `layers` split over the mesh axis "pipeline".

    Implements GPipe (Huang et al. 2019, arXiv:1811.06965). At each tick, each of the n stages applies its layers to one
    microbatch and passes the result on. The backward pass runs in reverse; the gradient equals that of the full batch.
    There are m + n - 1 ticks for m microbatches (default: n), and a stage is idle for n - 1 of them: choose m several
    times n.

    Microbatch number `part` holds the examples part, part + m, part + 2m, ... `rows` are per-example inputs that the
    layers do not change. The partitioner handles the other mesh axes.

    Raises UserError if the batch size is not a multiple of m.
    """
    stages = num_shards("pipeline")
    num_parts = microbatches or stages
    size = len(jax.tree.leaves(x)[0])
    if size % num_parts:
        raise UserError(f"a batch of {size} examples cannot be split into {num_parts} pipeline microbatches.")

    def split_batch(x):
        x = jnp.moveaxis(x.reshape(size // num_parts, num_parts, *x.shape[1:]), 1, 0)
        return constrain(x, None, BATCH_AXES)

    def stage(layers, x, rows):
        stage_index = jax.lax.axis_index("pipeline")

        def tick(received, time):
            part = jnp.clip(time - stage_index, 0, num_parts - 1)  # idle ticks may process any finite microbatch
            at = lambda tree: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, part, keepdims=False), tree)
            inputs = jax.tree.map(lambda first, later: jnp.where(stage_index == 0, first, later), at(x), received)
            outputs = through(*layers, inputs, at(rows), part)
            next_stage = [(device, (device + 1) % stages) for device in range(stages)]
            return jax.lax.ppermute(outputs, "pipeline", next_stage), outputs

        initial = jax.lax.pcast(jax.tree.map(lambda x: jnp.zeros_like(x[0]), x), ("pipeline",), to="varying")
        _, outputs = jax.lax.scan(tick, initial, jnp.arange(num_parts + stages - 1))
        # Replicate the last stage's output on all stages.
        last = jax.tree.map(lambda x: jnp.where(stage_index == stages - 1, x[stages - 1 :], 0), outputs)
        return jax.lax.psum(last, "pipeline")

    split = PartitionSpec("pipeline")
    run = jax.shard_map(
        stage, in_specs=(split, PartitionSpec(), PartitionSpec()), out_specs=PartitionSpec(), axis_names={"pipeline"}
    )
    merge_batch = lambda x: jnp.moveaxis(x, 0, 1).reshape(size, *x.shape[2:])
    return jax.tree.map(merge_batch, run(layers, jax.tree.map(split_batch, x), jax.tree.map(split_batch, rows)))
