"""Stale gradients: the parameter server's world, in one machine."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.core import GradFn, Out, Tree
from research.errors import UserError, unknown
from research.technique import Technique


def delayed(grad_fn: GradFn, *, steps: int, name: str = "delayed") -> Technique:
    """The gradient of `steps` steps ago, at the params and on the batch of then: w_{t+1} = w_t - lr g_{t-k}(w_{t-k})
    (asynchronous SGD in which every gradient comes equally late; Langford et al. 2009, algorithm 1).

    For the first `steps` steps it is 0, which the optimizer takes for a gradient like any other: momentum stays 0,
    weight decay acts. Metrics and all other stats are those of the present step. The entry `name` of stats keeps
    the last `steps` gradients, [steps, ...] for every parameter, at the places step % steps. With steps = 0 it is
    `grad_fn` and keeps nothing. It has to be the outermost: within `accumulate` several gradients share a step.

    Raises UserError for steps that are no whole number of at least 0, and, while tracing, if the memory is missing.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UserError(f"a delay of {steps!r} steps; expected a whole number of at least 0.")
    if steps == 0:
        return Technique(name, grad_fn=grad_fn)

    def memory(key, params):
        return jax.tree.map(lambda p: jnp.zeros((steps, *p.shape), p.dtype), params)

    def late(params, ctx):
        waiting, place = remembered(ctx.stats, name), ctx.step % steps
        grads, out = grad_fn(params, ctx)
        old = jax.tree.map(lambda w: w[place], waiting)
        waiting = jax.tree.map(lambda w, g: w.at[place].set(g.astype(w.dtype)), waiting, grads)
        return old, Out({**out.stats, name: waiting}, out.metrics)

    return Technique(name, memory=memory, grad_fn=late)


def remembered(stats: Tree, name: str) -> Tree:
    """The stats entry of a technique; raises UserError if nobody made it."""
    if name not in stats:
        raise UserError(
            f"{unknown('stats entry', name, stats)} Add the technique to the experiment's techniques=(...)."
        )
    return stats[name]
