"""Regression: the error between a model's predictions and the targets of a batch."""

from __future__ import annotations

from collections.abc import Callable

from research import losses
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field


def regress(
    model: Model | Callable, *, error: Callable = losses.squared_error, inputs: str = "features",
    targets: str = "target",
) -> Loss:  # fmt: skip
    """Make the Loss of a regression; `model` is a Model or its `apply` and returns predictions [batch, ...].

    `error(predictions, targets)` acts entry by entry: `losses.squared_error`, `losses.absolute_error`,
    `losses.huber(delta)`, or another. An example's loss is the mean over its entries. Metrics are loss and mae, the
    mean absolute error. Examples of mask 0 have no weight. Effect on `stats`: all the model's stats are passed on. The
    key is folded with "model".

    Raises UserError, while tracing, if the batch lacks a field, and if targets do not have the predictions' shape:
    broadcasting [batch, 1] with [batch] would yield [batch, batch].
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        x, y = field(ctx.batch, inputs), field(ctx.batch, targets)
        predictions, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        losses.check_targets(predictions, y)
        weights = example_weights(ctx.batch, len(x))

        def mean(values):
            return weighted_mean(values.reshape(len(x), -1).mean(-1), weights)

        metrics = {"loss": mean(error(predictions, y)), "mae": mean(losses.absolute_error(predictions, y))}
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
