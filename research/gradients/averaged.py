"""The gradient averaged over the devices of a named axis: what a step inside pmap or shard_map needs.

Under plain `jit` on a mesh nothing of the kind is needed: there the batch is global, and so is its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.axes import Array, Shaped
from research.core import GradFn, Out, Tree, check_additive, draw
from research.errors import UserError, unknown
from research.gradients.accumulate import in_dtype_of, restricted, weighed


def averaged(grad_fn: GradFn, *, axis: str, local: tuple[str, ...] = ()) -> GradFn:
    """The mean over `axis` (of pmap, shard_map or vmap) of the gradients of every device's rows.

    Gradients are weighted by `metrics["loss"].weight` and added in f32, metrics are added up, so that all devices
    return the same: the gradient of the global batch for a deterministic loss that adds over examples, however its
    padding is spread. A device of weight 0 counts in nothing. The key is folded with ("averaged", axis index).

    Changed stats: floats become their mean over the devices, weighted like the gradients (what nobody had weight for
    stays as it was); integers and booleans their maximum, which leaves a counter that all advance alike as it is.
    The entries named in `local` stay each device's own, as the memory of `compressed` must: they differ from replica
    to replica, so keep them sharded over the axis. Batch normalisation sees each device's rows alone.

    Raises UserError, while tracing, if no such axis is mapped, for a `local` that is no entry, and for a loss that
    is NotAdditive.
    """

    def mean_gradient(params, ctx):
        try:
            index = jax.lax.axis_index(axis)
        except NameError as error:
            raise UserError(
                f"no axis {axis!r} is mapped here; averaged(axis={axis!r}) runs inside pmap, shard_map or vmap "
                f"with axis_name={axis!r}."
            ) from error
        for name in local:
            if name not in ctx.stats:
                raise unknown("stats entry", name, ctx.stats)
        # shard_map takes a gradient by what is equal on all devices to be wanted summed over them, and sums it by
        # itself. The select, which costs nothing, makes these values the device's own.
        params, stats = jax.tree.map(lambda x: jnp.where(index < 0, x, x), (params, ctx.stats))
        grads, out = grad_fn(params, ctx._replace(stats=stats, key=draw(ctx.key, "averaged", index)))
        check_additive(out.metrics, by="averaged")
        mean = jax.lax.psum(weighed(grads, out.metrics), axis)
        kept = {name: entry for name, entry in out.stats.items() if name in local}
        rest = {name: entry for name, entry in out.stats.items() if name not in local}
        shared = _reduced(rest, restricted(ctx.stats, rest), out.metrics, axis)
        return in_dtype_of(params, mean.value()), Out({**shared, **kept}, jax.lax.psum(out.metrics, axis))

    return mean_gradient


def _reduced(stats: Tree, old: Tree, metrics: Mapping[str, Any], axis: str) -> Tree:
    """One value for all devices; see `averaged`."""

    def reduce(new: Shaped[Array, "*entry"], old: Shaped[Array, "*entry"]) -> Shaped[Array, "*entry"]:
        if not jnp.issubdtype(new.dtype, jnp.inexact):
            return jax.lax.pmax(new, axis)
        mean = jax.lax.psum(weighed(new, metrics), axis)
        return jnp.where(mean.weight == 0, old, mean.value().astype(old.dtype))

    return jax.tree.map(reduce, stats, old)
