"""Stale gradients: simulate an asynchronous parameter server on one machine."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.core import GradFn, Out, Tree
from research.errors import UserError, unknown
from research.technique import Technique


def delayed(grad_fn: GradFn, *, steps: int, name: str = "delayed") -> Technique:
    """Return the gradient of `steps` steps ago, computed at that step's params and batch.

    w_{t+1} = w_t - lr g_{t-k}(w_{t-k}): asynchronous SGD in which every gradient is equally late (Langford et al. 2009,
    algorithm 1). During the first `steps` steps the gradient is 0. The optimizer treats it as any other gradient:
    momentum stays 0 and weight decay is applied. Limit: with steps = 0 it returns `grad_fn` and stores nothing.

    Effect on `stats`: the entry `name` stores the last `steps` gradients, [steps, ...] for every parameter, at index
    step % steps. Metrics and all other stats are those of the current step.

    Make it the outermost estimator: inside `accumulate`, several gradients would share one step.

    Raises UserError if steps is not an integer of at least 0; while tracing, if the memory is missing from stats.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UserError(f"a delay of {steps!r} steps; expected an integer of at least 0.")
    if steps == 0:
        return Technique(name, grad_fn=grad_fn)

    def memory(key, params):
        return jax.tree.map(lambda p: jnp.zeros((steps, *p.shape), p.dtype), params)

    def late(params, ctx):
        buffer, index = remembered(ctx.stats, name), ctx.step % steps
        grads, out = grad_fn(params, ctx)
        old = jax.tree.map(lambda w: w[index], buffer)
        buffer = jax.tree.map(lambda w, g: w.at[index].set(g.astype(w.dtype)), buffer, grads)
        return old, Out({**out.stats, name: buffer}, out.metrics)

    return Technique(name, memory=memory, grad_fn=late)


def remembered(stats: Tree, name: str) -> Tree:
    """Return the stats entry of a technique. Raises UserError if it is missing."""
    if name not in stats:
        raise UserError(
            f"{unknown('stats entry', name, stats)} Add the technique to the experiment's techniques=(...)."
        )
    return stats[name]
