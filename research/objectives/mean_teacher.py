"""Mean teacher: train a model to agree with its own moving average on another view of each image."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Int, Scalar
from research.core import Loss, Model, Out, View, draw, weighted_mean
from research.fields import example_weights, field
from research.objectives.teacher import teacher_outputs
from research.objectives.unlabelled import mean_per_labelled, unlabelled_rows, value_at


def mean_teacher(
    model: Model | Callable, *, view: View, weight: float | Callable = 1.0, augment: Callable | None = None,
    inputs: str = "image", labels: str = "label", unlabelled: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Minimise cross-entropy(labels) + weight(step) * mean |student - teacher|^2, in probabilities.

    From Tarvainen & Valpola 2017 (arXiv:1703.01780), section 2. The teacher's weights are the moving average of the
    student's: `average = ema(0.99)` with `view=average.view`. Teacher and student get separate noise, from
    `augment(key, batch) -> batch` and from dropout. The mean is over all examples, labelled ones included. No gradient
    flows through the teacher. `weight` is a number or a schedule, such as `sigmoid_ramp`.

    The batch is that of `pseudo_label`. The squares are summed over classes; the authors' code takes their mean, so its
    weight is ours times the number of classes. Labelled and unlabelled examples pass through the model in one call, in
    training mode. Metrics are loss, accuracy (labelled) and consistency (the second term without the weight). Effect on
    `stats`: the student's are passed on, BatchNorm's included; the teacher's changes are discarded.

    Limit: for weight 0 it equals `classify`. It adds over the labelled examples; one of mask 0 has no weight, and
    neither have its unlabelled examples. The key is folded with "augment", "weak", "teacher", "model" and "guess".
    Raises UserError for a field that is missing or does not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        labelled = field(ctx.batch, inputs)
        rows = unlabelled_rows(ctx.batch, unlabelled, like=labelled)
        batch, extra, teacher_batch = ctx.batch, {inputs: rows}, {inputs: jnp.concatenate([labelled, rows])}
        if augment:
            batch = augment(draw(ctx.key, "augment"), batch)
            extra = augment(draw(ctx.key, "weak"), extra)
            teacher_batch = augment(draw(ctx.key, "teacher"), teacher_batch)
        x, y = field(batch, inputs), field(batch, labels)
        student_inputs = jnp.concatenate([x, extra[inputs]])
        logits, stats = apply(params, ctx.stats, student_inputs, key=draw(ctx.key, "model"), train=True)
        teacher = teacher_outputs(
            apply, view, params, ctx, teacher_batch[inputs], key=draw(ctx.key, "guess"), train=True
        )
        distance = jnp.sum(jnp.square(_probabilities(logits) - _probabilities(teacher)), -1)
        ratio = len(rows) // len(x)
        distance = (distance[: len(x)] + ratio * mean_per_labelled(distance[len(x) :], len(x))) / (1 + ratio)
        supervised = losses.cross_entropy(logits[: len(x)], y)
        weights = example_weights(batch, len(x))
        metrics = {
            "loss": weighted_mean(supervised + value_at(weight, ctx.step) * distance, weights),
            "accuracy": weighted_mean(losses.hits(logits[: len(x)], y), weights),
            "consistency": weighted_mean(distance, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def sigmoid_ramp(value: float, *, steps: int) -> Callable[[int | Int[Array, ""]], Scalar]:
    """Ramp a value up slowly: value * exp(-5 (1 - t)^2) with t = step / steps up to 1, then constant.

    It starts at 0.007 of the value (Laine & Aila 2017, arXiv:1610.02242, section 2).
    """
    return lambda step: value * jnp.exp(-5 * jnp.square(1 - jnp.minimum(step / steps, 1.0)))


def _probabilities(logits: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
    return jax.nn.softmax(logits.astype(jnp.float32))
