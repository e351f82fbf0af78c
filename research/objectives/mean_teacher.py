"""Mean teacher: the model's moving average says, for another view of each image, what the model must say."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Int, Scalar
from research.core import Loss, Model, Out, View, draw, weighted_mean
from research.fields import example_weights, field
from research.objectives.teacher import targets
from research.objectives.unlabelled import amount, per_labelled, unlabelled_rows


def mean_teacher(
    model: Model | Callable, *, view: View, weight: float | Callable = 1.0, augment: Callable | None = None,
    inputs: str = "image", labels: str = "label", unlabelled: str = "unlabelled",
) -> Loss:  # fmt: skip
    """Cross-entropy(labels) + weight(step) * mean over all examples of |student - teacher|^2, in probabilities.

    Tarvainen & Valpola 2017 (arXiv:1703.01780), section 2: the teacher's weights are the moving average of the
    student's, `average = ema(0.99)` with `view=average.view`; teacher and student get noise of their own, from
    `augment(key, batch) -> batch` and from dropout. Labelled examples count in the second term too. No gradient flows
    through the teacher. `weight` is a number or a schedule, such as `sigmoid_ramp`.

    The batch is that of `pseudo_label`. The squares are summed over classes (the authors' code takes their mean, and
    its weight is thus ours times the number of classes). Labelled and unlabelled examples go through the model in one
    call, as in training; BatchNorm's stats are the student's. Metrics are loss, accuracy (labelled), and consistency
    (the second term without the weight). Equals `classify` for weight 0. Adds over the labelled examples; one of mask 0
    has no weight, nor have its unlabelled ones. Raises UserError for a field that is missing or does not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        plain = field(ctx.batch, inputs)
        rows = unlabelled_rows(ctx.batch, unlabelled, like=plain)
        batch, others, again = ctx.batch, {inputs: rows}, {inputs: jnp.concatenate([plain, rows])}
        if augment:
            batch = augment(draw(ctx.key, "augment"), batch)
            others = augment(draw(ctx.key, "weak"), others)
            again = augment(draw(ctx.key, "teacher"), again)
        x, y = field(batch, inputs), field(batch, labels)
        both = jnp.concatenate([x, others[inputs]])
        logits, stats = apply(params, ctx.stats, both, key=draw(ctx.key, "model"), train=True)
        taught = targets(apply, view, params, ctx, again[inputs], key=draw(ctx.key, "guess"), train=True)
        far = jnp.sum(jnp.square(_probabilities(logits) - _probabilities(taught)), -1)
        mu = len(rows) // len(x)
        far = (far[: len(x)] + mu * per_labelled(far[len(x) :], len(x))) / (1 + mu)
        supervised = losses.cross_entropy(logits[: len(x)], y)
        weights = example_weights(batch, len(x))
        metrics = {
            "loss": weighted_mean(supervised + amount(weight, ctx.step) * far, weights),
            "accuracy": weighted_mean(losses.hits(logits[: len(x)], y), weights),
            "consistency": weighted_mean(far, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def sigmoid_ramp(value: float, *, steps: int) -> Callable[[int | Int[Array, ""]], Scalar]:
    """The schedule value * exp(-5 (1 - t)^2), t = step / steps up to 1: slowly up from 0.007 of the value, then
    constant (Laine & Aila 2017, arXiv:1610.02242, section 2).
    """
    return lambda step: value * jnp.exp(-5 * jnp.square(1 - jnp.minimum(step / steps, 1.0)))


def _probabilities(logits: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
    return jax.nn.softmax(logits.astype(jnp.float32))
