"""Metric learning: embed examples so that those of a class are nearer to each other than to those of other classes."""

from __future__ import annotations

from collections.abc import Callable

from research import losses
from research.core import Loss, Model, Out, draw, not_additive, weighted_mean
from research.fields import example_weights, field


def triplets(
    model: Model | Callable, *, margin: float = 0.2, mining: str = "hard", normalize: bool = True,
    inputs: str = "image", labels: str = "label",
) -> Loss:  # fmt: skip
    """Make the triplet loss (Hermans et al. 2017); `model` is a Model or its `apply`, and returns [batch, features].

    Triplets are mined in the batch (`losses.mined_triplet`), which therefore needs several examples of each class.
    Metrics are loss, the mean over anchors that have a triplet, and anchors, the fraction of examples that have one.
    `normalize` scales embeddings to length 1. Examples of mask 0 are in no triplet. The loss depends on the (global)
    batch and is NotAdditive. Effect on `stats`: all the model's stats are passed on. The key is folded with "model".

    Raises UserError for an unknown mining and a negative margin and, while tracing, if the batch lacks a field.
    """
    losses.check_mining(margin, mining)
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        x, y = field(ctx.batch, inputs), field(ctx.batch, labels)
        embeddings, stats = apply(params, ctx.stats, x, key=draw(ctx.key, "model"), train=True)
        embeddings = losses.l2_normalize(embeddings) if normalize else embeddings
        weights = example_weights(ctx.batch, len(x))
        anchors = losses.mined_triplet(embeddings, y, margin=margin, mining=mining, weights=weights)
        metrics = {
            "loss": not_additive(weighted_mean(anchors.loss, anchors.weights)),
            "anchors": weighted_mean(anchors.weights, weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
