"""Multi-task learning: one forward pass with several outputs, a loss term per task, and rules that weight the terms.

Task    = (outputs, batch) -> Term               a loss for every example, its weight, and metrics
Weigh   = (params, ctx)    -> {task: Share}      the factor and the offset of every task's loss
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Scalar
from research.core import Batch, Ctx, Loss, Mean, Measure, Model, Out, Tree, draw, weighted_mean
from research.errors import UserError, unknown
from research.fields import example_weights, field


class Term(NamedTuple):
    """A task's loss for every example, the weights (0 if the label is missing), and metrics by name."""

    loss: Float[Array, " batch"]
    weights: Float[Array, " batch"]
    metrics: Mapping[str, Float[Array, " batch"]]


class TaskWeight(NamedTuple):
    """How a task contributes to the sum: factor * loss + offset, for every example that has a label."""

    factor: float | Scalar
    offset: float | Scalar = 0.0


Task = Callable[[Mapping[str, Array], Batch], Term]
Weigh = Callable[[Tree, Ctx], Mapping[str, TaskWeight]]


def classification(output: str, *, labels: str = "label", smoothing: float = 0.0) -> Task:
    """Make a classification Task on the logits `outputs[output]`, [batch, classes]: cross-entropy in nats.

    The metric is accuracy. Labels are class numbers, int [batch]; a negative label is missing. Raises UserError, while
    tracing, for other labels.
    """

    def task(outputs, batch):
        logits, y = field(outputs, output), field(batch, labels)
        if y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
            raise UserError(f"the labels {labels!r} must be int [B]; they are {y.dtype}{list(y.shape)}.")
        valid = y >= 0
        # Replace a missing label before its use, because 0 times a NaN gradient is NaN.
        filled = jnp.where(valid, y, 0)
        metrics = {"accuracy": losses.hits(logits, filled)}
        return Term(losses.cross_entropy(logits, filled, smoothing=smoothing), valid.astype(jnp.float32), metrics)

    return task


def regression(output: str, *, targets: str) -> Task:
    """Make a regression Task that predicts `batch[targets]` by `outputs[output]`, both float [batch, outputs].

    Targets may also be [batch]. The loss is half the squared error, summed over outputs (the negative log-likelihood of
    unit variance, up to a constant). The metric error is the absolute error, averaged over outputs. A target that
    contains a non-finite number is missing. Raises UserError, while tracing, if the shapes do not fit.
    """

    def task(outputs, batch):
        predicted, y = field(outputs, output), field(batch, targets)
        y = y[:, None] if y.ndim == 1 else y
        if predicted.shape != y.shape:
            raise UserError(f"{output!r} {list(predicted.shape)} does not fit the targets {targets!r} {list(y.shape)}.")
        valid = jnp.all(jnp.isfinite(y), -1)
        difference = predicted.astype(jnp.float32) - jnp.where(valid[:, None], y, 0).astype(jnp.float32)
        metrics = {"error": jnp.abs(difference).mean(-1)}
        return Term(0.5 * jnp.square(difference).sum(-1), valid.astype(jnp.float32), metrics)

    return task


def fixed(weights: Mapping[str, float | Callable]) -> Weigh:
    """Make a Weigh of constant factors {task: number}; a factor may also be a schedule `step -> number`."""
    return lambda params, ctx: {
        name: TaskWeight(weight(ctx.step) if callable(weight) else weight) for name, weight in weights.items()
    }


def multi_task(
    model: Model | Callable, tasks: Mapping[str, Task], *, weigh: Weigh, inputs: str = "image",
    augment: Callable | None = None,
) -> Loss:  # fmt: skip
    """Make the Loss 1/N sum_i sum_t m_it (factor_t loss_it + offset_t) over N examples i and the tasks {name: task}.

    From Caruana 1997; Ruder 2017 reviews weighting methods. `model` is a Model or its `apply` and is called once; the
    tasks read its outputs. m_it is 1 if example i has a label for task t, and 0 otherwise. A missing label therefore
    counts as a loss of 0, and the sum is divided by the number of examples, not of labels. The loss adds over examples
    however labels are distributed, so microbatches, clients and devices add up exactly. A task with labels for a
    fraction q of the examples has an effective factor of q times its factor.

    Metrics are loss, and `{task}_loss` and `{task}_{metric}` as means over the examples that have the label. Limit:
    with one task of factor 1 and all labels it equals that task alone (`classify`). `augment(key, batch) -> batch` runs
    first. Examples of mask 0 count in nothing. Effect on `stats`: all the model's stats are passed on. The key is
    folded with "augment" and "model". Raises UserError if the batch lacks a field, and if `weigh` and `tasks` name
    different tasks.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        x = field(batch, inputs)
        outputs, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        real = example_weights(batch, len(x))
        shares = weigh(params, ctx)
        for name in [*shares, *tasks]:
            if name not in tasks or name not in shares:
                raise unknown("task", name, shares if name in tasks else tasks)
        total, metrics = jnp.zeros(len(x), jnp.float32), {}
        for name, task in tasks.items():
            term = task(outputs, batch)
            # Use a select, not a product, because the loss of padding may be non-finite.
            value = shares[name].factor * term.loss + shares[name].offset
            total += jnp.where(term.weights == 0, 0.0, term.weights * value)
            metrics |= task_metrics(name, term, real)
        metrics["loss"] = weighted_mean(total, real)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def measure_tasks(tasks: Mapping[str, Task], *, inputs: str = "image") -> Measure:
    """Make the measure of an Eval: `{task}_loss` and `{task}_{metric}` over the examples with that task's label."""

    def measure(trained, batch):
        x = field(batch, inputs)
        outputs = trained(x)
        real = example_weights(batch, len(x))
        metrics = {}
        for name, task in tasks.items():
            metrics |= task_metrics(name, task(outputs, batch), real)
        return metrics

    return measure


def task_metrics(name: str, term: Term, real: Float[Array, " batch"]) -> dict[str, Mean]:
    """Return a task's metrics as Means over the examples that are real and have the label."""
    weights = real * term.weights
    return {f"{name}_{key}": weighted_mean(x, weights) for key, x in {"loss": term.loss, **term.metrics}.items()}
