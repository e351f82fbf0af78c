"""GradNorm: learn task weights so that all tasks train at similar rates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from research.axes import Array, Float
from research.core import Loss, not_additive
from research.errors import UserError, unknown
from research.objectives.multi_task import TaskWeight
from research.technique import Technique
from research.tree import path_name


def grad_norm(
    make_loss: Callable[[Callable], Loss], tasks: Iterable[str], *, shared: str, alpha: float = 1.5,
    learning_rate: float = 0.025, name: str = "grad_norm",
) -> Technique:  # fmt: skip
    """Learn task weights w_t from the gradient norms at shared weights W (GradNorm, Chen et al. 2018, Algorithm 1).

    W are the params whose path matches the pattern `shared`; the paper uses the last layer that all tasks share.
    G_t = |grad_W w_t L_t|. r_t is the current loss divided by the first one, divided by the mean of this ratio over
    tasks. Every step makes one plain gradient step on sum_t |G_t - mean(G) r_t ** alpha| (eq. 2, with the second term
    held constant) with rate `learning_rate`. Weights below 0 are then set to 0 and all are rescaled to sum to the
    number of tasks. The params move along sum_t w_t L_t with the weights from before this update.

    Cost: one forward pass, one full backward pass, and one backward pass down to W per task. Because the weights depend
    on the complete batch, the reported loss is NotAdditive. Limit: with learning_rate 0 it equals `gradient` of the sum
    with equal weights. Effect on `stats`: the entry `name` holds {"weights": {task: f32}, "first": {task: f32}},
    initially 1 and 0.

    `make_loss(weigh)` returns the Loss, such as `lambda weigh: multi_task(model, tasks, weigh=weigh)`, with the metric
    `{task}_loss` of each task. Raises UserError if a metric is missing, and if `shared` matches no parameter.
    """
    tasks = tuple(tasks)

    def memory(key, params):
        return {"weights": dict.fromkeys(tasks, jnp.float32(1)), "first": dict.fromkeys(tasks, jnp.float32(0))}

    def weigh(params, ctx):
        return {task: TaskWeight(weight) for task, weight in ctx.stats[name]["weights"].items()}

    loss = make_loss(weigh)

    def grad_fn(params, ctx):
        is_shared = jax.tree.map_with_path(lambda path, _: bool(re.search(shared, path_name(path))), params)
        if not any(jax.tree.leaves(is_shared)):
            paths = [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]
            raise UserError(f"the pattern {shared!r} of shared weights matches no parameter. Paths: {paths[:6]}.")

        def values(params):
            value, out = loss(params, ctx)
            for task in tasks:
                if f"{task}_loss" not in out.metrics:
                    raise unknown("metric of a task", f"{task}_loss", out.metrics)
            means = [out.metrics[f"{task}_loss"] for task in tasks]
            # The task's contribution to the loss: divided by the number of examples, not of labels.
            parts = [mean.sum / jnp.maximum(out.metrics["loss"].weight, 1e-30) for mean in means]
            return (value, parts), out

        (_, parts), backward, out = jax.vjp(values, params, has_aux=True)
        zeros = [jnp.zeros_like(part) for part in parts]
        (grads,) = backward((jnp.ones((), jnp.float32), zeros))

        def norm(number):
            one_hot = [jnp.ones_like(part) if i == number else part for i, part in enumerate(zeros)]
            (task_grads,) = backward((jnp.zeros((), jnp.float32), one_hot))
            squares = jax.tree.map(lambda g, c: jnp.sum(jnp.square(g)) if c else 0.0, task_grads, is_shared)
            return jnp.sqrt(sum(jax.tree.leaves(squares)))

        old = ctx.stats[name]
        weights = jnp.stack([old["weights"][task] for task in tasks])
        first = jnp.stack([old["first"][task] for task in tasks])
        current = jnp.stack([out.metrics[f"{task}_loss"].value() for task in tasks])
        first = jnp.where(first > 0, first, current)
        grad_norms = jnp.stack([norm(number) for number in range(len(tasks))])
        weights = balanced(weights, grad_norms, current / jnp.maximum(first, 1e-30), alpha=alpha, rate=learning_rate)
        entry = {"weights": weights, "first": first}
        entry = {key: {task: x[i] for i, task in enumerate(tasks)} for key, x in entry.items()}
        metrics = {**out.metrics, "loss": not_additive(out.metrics["loss"])}
        return grads, out._replace(stats={**out.stats, name: entry}, metrics=metrics)

    return Technique(name, memory=memory, loss=loss, grad_fn=grad_fn)


def balanced(
    weights: Float[Array, " tasks"], slopes: Float[Array, " tasks"], progress: Float[Array, " tasks"],
    *, alpha: float, rate: float,
) -> Float[Array, " tasks"]:  # fmt: skip
    """Update the task weights by one step of GradNorm (Chen et al. 2018, eq. 1-2).

    `slopes` are |grad_W L_t|, and `progress` the losses divided by the first ones. Because G_t = w_t |grad_W L_t|,
    eq. 2 needs no second derivative.
    """
    norms = weights * slopes
    pace = progress / jnp.maximum(progress.mean(), 1e-30)
    gradient = jnp.sign(norms - norms.mean() * pace**alpha) * slopes
    updated = jnp.maximum(weights - rate * gradient, 0.0)
    return updated * len(weights) / jnp.maximum(updated.sum(), 1e-30)
