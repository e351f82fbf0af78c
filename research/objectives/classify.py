"""Classification: cross-entropy between a model's logits and the labels of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp

from research import losses
from research.axes import Array, Float
from research.core import Loss, Model, Out, draw, weighted_mean
from research.errors import UserError
from research.fields import arguments, example_weights, field


def classify(
    model: Model | Callable, *, smoothing: float = 0.0, inputs: str | tuple[str, ...] = "image", labels: str = "label",
    augment: Callable | None = None, per_example: Callable | None = None,
    class_weights: Float[Array, " classes"] | tuple[float, ...] | None = None,
) -> Loss:  # fmt: skip
    """Make the Loss of a classifier; `model` is a Model or its `apply` and returns logits [batch, classes].

    `inputs` is the field that the model reads, or several fields, its arguments in order.
    Labels are class numbers, int [batch], or probabilities, float [batch, classes], as mixing examples produces.
    `augment(key, batch) -> batch` runs first, on the device. Metrics are loss (nats) and accuracy. Examples of mask 0
    have no weight. Effect on `stats`: all the model's stats are passed on. The key is folded with "augment" and
    "model".

    `per_example(logits, labels) -> f32 [batch]` replaces the cross-entropy, for example by `losses.focal(2)`. With
    `class_weights` the loss is a weighted mean: each example has the weight of its class or, if its label is a row of
    probabilities, their mean weight. The accuracy stays unweighted.

    Raises UserError if smoothing is combined with `per_example`; while tracing, if the batch lacks a field, if the
    labels or the class weights do not fit the logits, and if `per_example` does not return one value per example.
    """
    apply = getattr(model, "apply", model)
    if per_example and smoothing:
        raise UserError(f"smoothing={smoothing} belongs to the cross-entropy, which per_example replaces; set one.")
    per_example = per_example or functools.partial(losses.cross_entropy, smoothing=smoothing)

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        x, y = arguments(batch, inputs), field(batch, labels)
        logits, stats = apply(params, ctx.stats, *x, key=draw(ctx.key, "model"), train=True)
        weights = example_weights(batch, len(logits))
        values = per_example(logits, y)
        if jnp.shape(values) != weights.shape:
            shape = list(jnp.shape(values))
            raise UserError(f"per_example must return a loss of shape {list(weights.shape)}; it returned {shape}.")
        balance = 1 if class_weights is None else _example_balance(y, logits, class_weights)
        metrics = {
            "loss": weighted_mean(values, weights * balance),
            "accuracy": weighted_mean(losses.hits(logits, y), weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def _example_balance(labels, logits, class_weights) -> Float[Array, " batch"]:
    weights = jnp.asarray(class_weights, jnp.float32)
    if weights.shape != logits.shape[-1:]:
        classes = logits.shape[-1]
        raise UserError(f"class_weights {list(weights.shape)} for logits of {classes} classes; expected one per class.")
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return weights[labels]
    return labels.astype(jnp.float32) @ weights
