"""Gradients averaged over the devices of a named axis, for steps inside pmap or shard_map.

Under plain `jit` on a mesh this is not needed: the batch is global, and therefore so is its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.axes import Array, Shaped
from research.core import GradFn, Out, Tree, check_additive, draw
from research.errors import UserError, unknown
from research.gradients.accumulate import cast_like, select_entries, weighted_grads


def averaged(grad_fn: GradFn, *, axis: str, local: tuple[str, ...] = ()) -> GradFn:
    """Average gradients over `axis` (of pmap, shard_map or vmap), each device computing on its own rows.

    Gradients are weighted by `metrics["loss"].weight` and summed in f32; metrics are summed. All devices return the
    same result. A device of weight 0 contributes nothing. The key is folded with ("averaged", axis index).

    Limit: equals the gradient of the global batch for a deterministic loss that adds over examples, however the padding
    is distributed. Batch normalisation still sees each device's rows alone.

    Effect on `stats`: changed floats become their mean over the devices, weighted like the gradients; they keep their
    old value if no device had weight. Integers and booleans become their maximum, which preserves a counter that every
    device advances equally. The entries named in `local` stay per device, as the memory of `compressed` requires. They
    differ between replicas, so keep them sharded over the axis.

    Raises UserError, while tracing, if no such axis is mapped, if `local` names an unknown entry, and if the loss is
    NotAdditive.
    """

    def mean_gradient(params, ctx):
        try:
            index = jax.lax.axis_index(axis)
        except NameError as error:
            raise UserError(
                f"no axis {axis!r} is mapped; averaged(axis={axis!r}) must run inside pmap, shard_map or vmap "
                f"with axis_name={axis!r}."
            ) from error
        for name in local:
            if name not in ctx.stats:
                raise unknown("stats entry", name, ctx.stats)
        # shard_map sums the gradient with respect to a replicated value over the devices by itself. This select, which
        # costs nothing, makes the values device-varying, so each device gets its own gradient.
        params, stats = jax.tree.map(lambda x: jnp.where(index < 0, x, x), (params, ctx.stats))
        grads, out = grad_fn(params, ctx._replace(stats=stats, key=draw(ctx.key, "averaged", index)))
        check_additive(out.metrics, by="averaged")
        mean = jax.lax.psum(weighted_grads(grads, out.metrics), axis)
        local_stats = {name: entry for name, entry in out.stats.items() if name in local}
        changed = {name: entry for name, entry in out.stats.items() if name not in local}
        shared_stats = _reduce_stats(changed, select_entries(ctx.stats, changed), out.metrics, axis)
        return cast_like(params, mean.value()), Out({**shared_stats, **local_stats}, jax.lax.psum(out.metrics, axis))

    return mean_gradient


def _reduce_stats(stats: Tree, old: Tree, metrics: Mapping[str, Any], axis: str) -> Tree:
    """Reduce changed stats to one value on all devices; `averaged` states the rule."""

    def reduce(new: Shaped[Array, "*entry"], old: Shaped[Array, "*entry"]) -> Shaped[Array, "*entry"]:
        if not jnp.issubdtype(new.dtype, jnp.inexact):
            return jax.lax.pmax(new, axis)
        mean = jax.lax.psum(weighted_grads(new, metrics), axis)
        return jnp.where(mean.weight == 0, old, mean.value().astype(old.dtype))

    return jax.tree.map(reduce, stats, old)
