"""Classification: cross-entropy between a model's logits and the labels of a batch."""

from __future__ import annotations

from collections.abc import Callable

from research import losses
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field


def classify(
    model: Model | Callable, *, smoothing: float = 0.0, inputs: str = "image", labels: str = "label",
    augment: Callable | None = None,
) -> Loss:  # fmt: skip
    """The Loss of a classifier; `model` is a Model or its `apply`, giving logits [batch, classes].

    Labels are class numbers, int [batch], or the probabilities, float [batch, classes], that mixing examples gives.
    `augment(key, batch) -> batch` runs first, on the device. Metrics are loss (nats) and accuracy. Examples of mask 0
    have no weight; all the model's stats are passed on. The key is folded with "augment" and "model".

    Raises UserError, while tracing, if the batch lacks a field or the labels do not fit the logits.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        x, y = field(batch, inputs), field(batch, labels)
        logits, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        weights = example_weights(batch, len(x))
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(logits, y, smoothing=smoothing), weights),
            "accuracy": weighted_mean(losses.hits(logits, y), weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
