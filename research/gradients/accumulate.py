"""Gradient accumulation: split a batch into microbatches, average their gradients, then update once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from research.axes import Array, Shaped
from research.core import Batch, GradFn, Mean, Out, Tree, check_additive, draw, merge, overlay, repeat, weighted_mean
from research.errors import UserError, unknown
from research.tree import path_name


def accumulate(grad_fn: GradFn, n: int) -> GradFn:
    """Average the gradients of `n` microbatches, each weighted by `metrics["loss"].weight`.

    Microbatch i holds the examples i, i + n, i + 2n, ... of the batch, so each device of a sharded batch keeps its own
    rows. Sums are in f32; the gradient has the params' dtype. A microbatch of weight 0 contributes nothing, even if its
    gradient or its stats are not finite. Microbatch i has the key folded with ("accumulate", i).

    Limit: equals the plain gradient for a deterministic loss that adds over examples, masked batches included. With
    n = 1 it returns `grad_fn` itself.

    Metrics are summed. Stats pass from one microbatch to the next, as in n steps on small batches: batch normalisation
    sees B/n examples at a time. Do not wrap `private`, because noise would be added n times; use its own `microbatch`.

    Raises UserError if n is below 1; while tracing, if n does not divide the batch or the loss is NotAdditive.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UserError(f"accumulate over {n!r} microbatches; expected an integer of at least 1.")
    if n == 1:
        return grad_fn

    def accumulated(params, ctx):
        batches = _interleaved(ctx.batch, n)
        # Only the stats that the loss changes are returned, and their structure must be known before the loop.
        _, template = jax.eval_shape(grad_fn, params, ctx._replace(batch=jax.tree.map(lambda x: x[0], batches)))
        check_additive(template.metrics, by="accumulate")

        def body(carry, xs):
            stats, mean = carry
            i, batch = xs
            grads, out = grad_fn(params, ctx._replace(batch=batch, stats=stats, key=draw(ctx.key, "accumulate", i)))
            part = weighted_grads(grads, out.metrics)
            new = overlay(stats, out.stats)
            stats = jax.tree.map(lambda old, new: jnp.where(part.weight == 0, old, new), stats, new)
            return (stats, merge(mean, part)), out.metrics

        initial = weighted_grads(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, template.metrics))
        (stats, mean), metrics = repeat(body, (ctx.stats, initial), (jnp.arange(n), batches), length=n)
        metrics = jax.tree.map(lambda x: x.sum(0), metrics)
        return cast_like(params, mean.value()), Out(select_entries(stats, template.stats), metrics)

    return accumulated


def weighted_grads(grads: Tree, metrics: Mapping[str, Any]) -> Mean:
    """Return the gradient of part of a batch as a `Mean` weighted by its loss weight, in f32; weight 0 adds nothing."""
    one = jax.tree.map(lambda x: x[None], (grads, metrics["loss"].weight))
    return weighted_mean(*one)


def cast_like(params: Tree, grads: Tree) -> Tree:
    """Cast `grads` to the dtypes of `params`."""
    return jax.tree.map(lambda p, g: g.astype(p.dtype), params, grads)


def select_entries(stats: Tree, changed: Tree) -> Tree:
    """Select the entries of `stats` that `changed` names. Raises UserError for a name that `stats` lacks."""
    for name in changed:
        if name not in stats:
            raise unknown("stats entry", name, stats)
    return {name: select_entries(stats[name], x) if isinstance(x, dict) else stats[name] for name, x in changed.items()}


def _interleaved(batch: Batch, n: int) -> Mapping[str, Shaped[Array, "microbatches _ ..."]]:
    """Split the batch into a stack of `n` microbatches.

    The reshape to [batch / n, n, ...] comes first, because it leaves a sharded leading axis in place.
    """
    sizes = {path_name(path): jnp.shape(x)[:1] for path, x in jax.tree.leaves_with_path(batch)}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise UserError(f"accumulate needs batch fields with the same leading size; they have {sizes}.")
    ((size,),) = set(sizes.values())
    if size % n:
        raise UserError(f"a batch of {size} examples cannot be split into {n} microbatches; use a multiple of {n}.")
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(size // n, n, *x.shape[1:]), 1, 0), batch)
