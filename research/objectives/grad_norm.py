"""Weighing tasks so that all train at a like rate: GradNorm."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from research.axes import Array, Float
from research.core import Loss, not_additive
from research.errors import UserError, unknown
from research.objectives.multi_task import Share
from research.technique import Technique
from research.tree import path_name


def grad_norm(
    make_loss: Callable[[Callable], Loss], tasks: Iterable[str], *, shared: str, alpha: float = 1.5,
    learning_rate: float = 0.025, name: str = "grad_norm",
) -> Technique:  # fmt: skip
    """Task weights w_t learned from the gradients' norms at shared weights W (Chen et al. 2018, Algorithm 1).

    W are the params whose path the pattern `shared` finds: the paper's choice is the last layer that all tasks share.
    G_t = |grad_W w_t L_t|, r_t the loss over its first one, divided by the mean of that over tasks. One plain gradient
    step on  sum_t |G_t - mean(G) r_t ** alpha|  (eq. 2, the second term held constant) follows on every step, with
    rate `learning_rate`; then weights below 0 are set to 0 and all are scaled to sum to the number of tasks. The
    params move along sum_t w_t L_t with the weights from before.

    Keeps the entry `name` of stats: {"weights": {task: f32}, "first": {task: f32}}, 1 and 0 at first. One forward and
    one full backward pass, and for each task a backward pass down to W only. With learning_rate 0 it is `gradient` of
    the sum with equal weights. As the weights follow from the batch as a whole, the loss it reports is a NotAdditive.

    `make_loss(weigh)` gives the Loss, such as `lambda weigh: multi_task(model, tasks, weigh=weigh)`, with the metric
    `{task}_loss` of each task. Raises UserError if a metric is missing, and if `shared` matches no parameter.
    """
    tasks = tuple(tasks)

    def memory(key, params):
        return {"weights": dict.fromkeys(tasks, jnp.float32(1)), "first": dict.fromkeys(tasks, jnp.float32(0))}

    def weigh(params, ctx):
        return {task: Share(weight) for task, weight in ctx.stats[name]["weights"].items()}

    loss = make_loss(weigh)

    def grad_fn(params, ctx):
        chosen = jax.tree.map_with_path(lambda path, _: bool(re.search(shared, path_name(path))), params)
        if not any(jax.tree.leaves(chosen)):
            paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
            raise UserError(f"the pattern {shared!r} of shared weights matches none of {paths[:6]}.")

        def values(params):
            value, out = loss(params, ctx)
            for task in tasks:
                if f"{task}_loss" not in out.metrics:
                    raise unknown("metric of a task", f"{task}_loss", out.metrics)
            means = [out.metrics[f"{task}_loss"] for task in tasks]
            # What the task adds to the loss: the divisor is the number of examples, not of labels.
            parts = [mean.sum / jnp.maximum(out.metrics["loss"].weight, 1e-30) for mean in means]
            return (value, parts), out

        (_, parts), backward, out = jax.vjp(values, params, has_aux=True)
        nothing = [jnp.zeros_like(part) for part in parts]
        (grads,) = backward((jnp.ones((), jnp.float32), nothing))

        def norm(number):
            one = [jnp.ones_like(part) if i == number else part for i, part in enumerate(nothing)]
            (found,) = backward((jnp.zeros((), jnp.float32), one))
            picked = jax.tree.map(lambda g, c: jnp.sum(jnp.square(g)) if c else 0.0, found, chosen)
            return jnp.sqrt(sum(jax.tree.leaves(picked)))

        old = ctx.stats[name]
        weights = jnp.stack([old["weights"][task] for task in tasks])
        first = jnp.stack([old["first"][task] for task in tasks])
        now = jnp.stack([out.metrics[f"{task}_loss"].value() for task in tasks])
        first = jnp.where(first > 0, first, now)
        slopes = jnp.stack([norm(number) for number in range(len(tasks))])
        weights = balanced(weights, slopes, now / jnp.maximum(first, 1e-30), alpha=alpha, rate=learning_rate)
        entry = {"weights": weights, "first": first}
        entry = {key: {task: x[i] for i, task in enumerate(tasks)} for key, x in entry.items()}
        metrics = {**out.metrics, "loss": not_additive(out.metrics["loss"])}
        return grads, out._replace(stats={**out.stats, name: entry}, metrics=metrics)

    return Technique(name, memory=memory, loss=loss, grad_fn=grad_fn)


def balanced(
    weights: Float[Array, " tasks"], slopes: Float[Array, " tasks"], progress: Float[Array, " tasks"],
    *, alpha: float, rate: float,
) -> Float[Array, " tasks"]:  # fmt: skip
    """The weights after one step: `slopes` are |grad_W L_t|, and `progress` the losses over the first ones (Chen et al.
    2018, eq. 1-2). As G_t = w_t |grad_W L_t|, eq. 2 needs no second derivative."""
    norms = weights * slopes
    pace = progress / jnp.maximum(progress.mean(), 1e-30)
    gradient = jnp.sign(norms - norms.mean() * pace**alpha) * slopes
    moved = jnp.maximum(weights - rate * gradient, 0.0)
    return moved * len(weights) / jnp.maximum(moved.sum(), 1e-30)
