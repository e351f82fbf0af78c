"""Multi-label classification: several labels of an example may hold at once, and each is a yes-or-no decision."""

from __future__ import annotations

from collections.abc import Callable

from research import losses
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field


def multi_label(
    model: Model | Callable, *, per_entry: Callable = losses.binary_cross_entropy, inputs: str = "features",
    labels: str = "labels",
) -> Loss:  # fmt: skip
    """Make the Loss of a multi-label classifier.

    `model` is a Model or its `apply`, and returns logits [batch, classes]; `labels` is [batch, classes] of 0 and 1.
    `per_entry(logits, labels)` is a loss per entry: the binary cross-entropy, `losses.binary_focal(2.0)`,
    `losses.hinge`, or the cross-entropy with weights of positives. An example's loss is the mean over its labels.
    Metrics are loss and hamming, the fraction of wrong labels at probability 1/2. Examples of mask 0 have no weight.
    Effect on `stats`: all the model's stats are passed on. The key is folded with "model".

    Limit: with one label, it is logistic regression. Raises UserError, while tracing, if the batch lacks a field, and
    if labels do not have the shape of the logits.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        x, y = field(ctx.batch, inputs), field(ctx.batch, labels)
        logits, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        weights = example_weights(ctx.batch, len(x))
        metrics = {
            "loss": weighted_mean(per_entry(logits, y).mean(-1), weights),
            "hamming": weighted_mean(((logits > 0) != (y > 0)).mean(-1), weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
