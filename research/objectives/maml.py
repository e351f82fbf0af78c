"""MAML: learn initial weights from which a few gradient steps learn a new task (Finn et al. 2017)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from research.axes import Array, Num
from research.core import Batch, Ctx, Loss, Mean, Out, Tree, draw, repeat
from research.data.sampling.few_shot import QUERY, SUPPORT
from research.errors import UserError


def maml(loss: Loss, *, learning_rate: float, steps: int = 1, first_order: bool = False) -> Loss:
    """Evaluate `loss` on every task's queries after `steps` of gradient descent on its support (MAML, algorithm 1).

    The batch has fields "support_x" and "query_x" with a leading axis of tasks; `loss` receives the fields of one task,
    with the prefix removed. `first_order` replaces the gradient with respect to the initial params by the gradient at
    the adapted params (section 5.2). Metrics are those of `loss` on the queries, summed over tasks, and support_loss,
    measured before the first step. Limit: with a learning rate of 0 it equals `loss` on all queries at once.

    Effect on `stats`: every task starts from the same stats; changed entries are averaged over tasks and must be
    floats. The key is folded with "task" and the index of the task. Raises UserError for a batch without support or
    queries; while tracing, for changed stats that are not floats.
    """

    def outer(params, ctx):
        support, query = part(ctx.batch, SUPPORT), part(ctx.batch, QUERY)

        def task(key, support, query):
            inner = Ctx(support, ctx.stats, draw(key, "support"), ctx.step)
            fast, mean = adapted(loss, params, inner, learning_rate=learning_rate, steps=steps, first_order=first_order)
            _, out = loss(fast, ctx._replace(batch=query, key=draw(key, "query")))
            return out._replace(metrics={**out.metrics, "support_loss": mean})

        count = len(next(iter(query.values())))
        out = jax.vmap(task)(draw(ctx.key, "task", jnp.arange(count)), support, query)
        metrics = jax.tree.map(lambda x: x.sum(0), out.metrics)
        return metrics["loss"].value(), Out(jax.tree.map(_average_tasks, out.stats), metrics)

    return outer


def adapted(
    loss: Loss, params: Tree, ctx: Ctx, *, learning_rate: float, steps: int, first_order: bool = False
) -> tuple[Tree, Mean]:
    """Return (params after `steps` of gradient descent on `ctx`, the loss's Mean before them). Stats do not change."""

    def descend(fast, number):
        (_, out), grads = jax.value_and_grad(loss, has_aux=True)(fast, ctx._replace(key=draw(ctx.key, "inner", number)))
        grads = jax.lax.stop_gradient(grads) if first_order else grads
        return jax.tree.map(lambda p, g: p - learning_rate * g, fast, grads), out.metrics["loss"]

    fast, losses = repeat(descend, params, jnp.arange(steps), length=steps)
    return fast, jax.tree.map(lambda x: x[0], losses)


def part(batch: Batch, prefix: str) -> Batch:
    """Select the fields of a batch that begin with `prefix`, and remove it. Raises UserError if there are none."""
    fields = {name.removeprefix(prefix): x for name, x in batch.items() if name.startswith(prefix)}
    if not fields:
        raise UserError(f"the batch has no field {prefix}...; it has {', '.join(sorted(batch))}. See data/sampling.")
    return fields


def _average_tasks(x: Num[Array, "tasks ..."]) -> Num[Array, "..."]:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise UserError(f"stats of type {x.dtype} cannot be averaged over tasks; expected floats.")
    return x.mean(0)
