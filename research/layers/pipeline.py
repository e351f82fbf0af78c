"""A pipeline: stages of layers on different devices, and a batch that goes through them in parts."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from research.axes import Array, PyTree, Shaped
from research.distributed.sharding import BATCH_AXES, constrain, ways
from research.errors import UserError


def pipelined(
    through: Callable,
    layers: PyTree[Shaped[Array, "layers ..."]],
    x: PyTree[Shaped[Array, "batch ..."]],
    rows: PyTree[Shaped[Array, "batch ..."]],
    *,
    microbatches: int | None = None,
) -> PyTree[Shaped[Array, "batch ..."]]:
    """`through(*layers, x, rows, part)` with the leading axis of `layers` split over the mesh's axis "pipeline".

    GPipe (Huang et al. 2019, arXiv:1811.06965): at each tick each of the n stages applies its layers to one
    microbatch and passes it on. The backward pass is the same in reverse, and the gradient that of the whole batch. Of
    m + n - 1 ticks a stage is idle for n - 1, thus m (by default n) is better several times n. Microbatch i holds the
    examples i, i + m, i + 2m, ...; `rows` belong to the examples and do not change on the way. Other axes of the mesh
    stay with the partitioner.

    Raises UserError if the microbatches do not divide the batch.
    """
    stages = ways("pipeline")
    parts = microbatches or stages
    size = len(jax.tree.leaves(x)[0])
    if size % parts:
        raise UserError(f"a batch of {size} examples cannot go through a pipeline in {parts} microbatches.")

    def apart(x):
        x = jnp.moveaxis(x.reshape(size // parts, parts, *x.shape[1:]), 1, 0)
        return constrain(x, None, BATCH_AXES)

    def stage(layers, x, rows):
        here = jax.lax.axis_index("pipeline")

        def tick(arrived, time):
            part = jnp.clip(time - here, 0, parts - 1)  # in the idle ticks any that is finite will do
            at = lambda tree: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, part, keepdims=False), tree)
            taken = jax.tree.map(lambda first, later: jnp.where(here == 0, first, later), at(x), arrived)
            left = through(*layers, taken, at(rows), part)
            onward = [(device, (device + 1) % stages) for device in range(stages)]
            return jax.lax.ppermute(left, "pipeline", onward), left

        nothing = jax.lax.pcast(jax.tree.map(lambda x: jnp.zeros_like(x[0]), x), ("pipeline",), to="varying")
        _, left = jax.lax.scan(tick, nothing, jnp.arange(parts + stages - 1))
        # The output of the last stage, on all of them.
        whole = jax.tree.map(lambda x: jnp.where(here == stages - 1, x[stages - 1 :], 0), left)
        return jax.lax.psum(whole, "pipeline")

    split = PartitionSpec("pipeline")
    run = jax.shard_map(
        stage, in_specs=(split, PartitionSpec(), PartitionSpec()), out_specs=PartitionSpec(), axis_names={"pipeline"}
    )
    together = lambda x: jnp.moveaxis(x, 0, 1).reshape(size, *x.shape[2:])
    return jax.tree.map(together, run(layers, jax.tree.map(apart, x), jax.tree.map(apart, rows)))
