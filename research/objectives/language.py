"""Language modelling: predict the next token of packed documents."""

from __future__ import annotations

from collections.abc import Callable

from research import losses
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import inputs, targets
from research.layers.experts import Routed


def language(model: Model | Callable, *, smoothing: float = 0.0, balance: float = 0.01) -> Loss:
    """Make the Loss of a language model on a batch of {"tokens", "segments", "positions"}, each int [batch, time].

    `model` is a Model or its `apply`; it receives these three arrays and returns logits [batch, time, vocabulary].
    Metrics are loss (nats per token) and accuracy. Effect on `stats`: all the model's stats are passed on. The key is
    folded with "model".

    A mixture of experts returns Routed(logits, the load-balance loss of each row). The mean of that loss, each row
    weighted by its number of tokens, becomes the metric `balance`, and `balance` times it is added to the loss (Fedus
    et al. 2021, section 2.2).

    Raises UserError, while tracing, if the batch lacks a field or the logits do not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        logits, stats = apply(params, ctx.stats, *inputs(ctx.batch), key=draw(ctx.key, "model"), train=True)
        logits, row_balance = logits if isinstance(logits, Routed) else (logits, None)
        labels, weights = targets(ctx.batch)
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(logits, labels, smoothing=smoothing), weights),
            "accuracy": weighted_mean(losses.hits(logits, labels), weights),
        }
        if row_balance is not None:
            mean = metrics["balance"] = weighted_mean(row_balance, weights.sum(-1))
            metrics["loss"] = metrics["loss"]._replace(sum=metrics["loss"].sum + balance * mean.sum)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
