"""The gradient of a batch that does not fit: one microbatch after another, then one update."""

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
    """The mean of the gradients of `n` microbatches, each weighted by `metrics["loss"].weight`.

    Microbatch i holds the examples i, i + n, i + 2n, ... of the batch, so that every device of a sharded batch goes
    on working on its own rows. Sums are in f32 and the gradient comes back in the params' dtype. Equals the plain
    gradient for a deterministic loss that adds over examples, masked batches included; n = 1 is `grad_fn` itself. A
    microbatch of weight 0 counts in nothing, even where its gradient or its stats are not finite.

    Metrics add up. Stats pass from microbatch to microbatch, as n small batches would change them: batch
    normalisation sees B/n examples at a time. Microbatch i has the key folded with ("accumulate", i). Not for
    `private`, which would add noise n times: it has a microbatch of its own.

    Raises UserError for an n below 1, and while tracing for a batch that n does not divide or a NotAdditive loss.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UserError(f"accumulate over {n!r} microbatches; expected a whole number of at least 1.")
    if n == 1:
        return grad_fn

    def accumulated(params, ctx):
        batches = _interleaved(ctx.batch, n)
        # Only what the loss changes is handed on, and its form has to be known before the loop.
        _, form = jax.eval_shape(grad_fn, params, ctx._replace(batch=jax.tree.map(lambda x: x[0], batches)))
        check_additive(form.metrics, by="accumulate")

        def body(carry, xs):
            stats, mean = carry
            i, batch = xs
            grads, out = grad_fn(params, ctx._replace(batch=batch, stats=stats, key=draw(ctx.key, "accumulate", i)))
            part = weighed(grads, out.metrics)
            new = overlay(stats, out.stats)
            stats = jax.tree.map(lambda old, new: jnp.where(part.weight == 0, old, new), stats, new)
            return (stats, merge(mean, part)), out.metrics

        nothing = weighed(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, form.metrics))
        (stats, mean), metrics = repeat(body, (ctx.stats, nothing), (jnp.arange(n), batches), length=n)
        metrics = jax.tree.map(lambda x: x.sum(0), metrics)
        return in_dtype_of(params, mean.value()), Out(restricted(stats, form.stats), metrics)

    return accumulated


def weighed(grads: Tree, metrics: Mapping[str, Any]) -> Mean:
    """The gradient of a part of a batch as an open Mean, in f32; a part of weight 0 adds nothing to it."""
    one = jax.tree.map(lambda x: x[None], (grads, metrics["loss"].weight))
    return weighted_mean(*one)


def in_dtype_of(params: Tree, grads: Tree) -> Tree:
    """`grads` in the dtypes of `params`."""
    return jax.tree.map(lambda p, g: g.astype(p.dtype), params, grads)


def restricted(stats: Tree, changed: Tree) -> Tree:
    """Those entries of `stats` that `changed` names; raises UserError if it names another."""
    for name in changed:
        if name not in stats:
            raise unknown("stats entry", name, stats)
    return {name: restricted(stats[name], x) if isinstance(x, dict) else stats[name] for name, x in changed.items()}


def _interleaved(batch: Batch, n: int) -> Mapping[str, Shaped[Array, "microbatches _ ..."]]:
    """The batch as a stack of `n`; first [batch, n, ...], which leaves a sharded first axis in its place."""
    sizes = {path_name(path): jnp.shape(x)[:1] for path, x in jax.tree.leaves_with_path(batch)}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise UserError(f"accumulate needs fields of one leading size; the batch has {sizes}.")
    ((size,),) = set(sizes.values())
    if size % n:
        raise UserError(f"a batch of {size} examples cannot be split into {n} microbatches; take a multiple of {n}.")
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(size // n, n, *x.shape[1:]), 1, 0), batch)
