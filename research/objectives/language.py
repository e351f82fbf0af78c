"""Language modelling: predict the next token of packed documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Integer
from research.core import Loss, Mean, Model, Out, draw, weighted_mean
from research.fields import example_weights, field, inputs, targets
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


def translation(model: Model | Callable, *, smoothing: float = 0.0) -> Loss:
    """Make the Loss of an encoder-decoder that is given the correct previous tokens (teacher forcing).

    A batch has "source" and "target", int [batch, time]; 0 is padding. A target starts with a begin token and ends with
    an end token: each token but the first is predicted. `model` is a Model or its `apply`; it receives the source, the
    target without its last position, and the segments of the source (0 for padding), and returns logits. Metrics are
    loss (nats per token) and accuracy. Effect on `stats`: all the model's stats are passed on. The key is folded with
    "model".

    Raises UserError, while tracing, if the batch lacks a field or the logits do not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        logits, stats = apply(params, ctx.stats, *pair_inputs(ctx.batch), key=draw(ctx.key, "model"), train=True)
        metrics = pair_metrics(logits, ctx.batch, smoothing=smoothing)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def pair_inputs(
    batch: Mapping,
) -> tuple[Integer[Array, "batch keys"], Integer[Array, "batch time"], Integer[Array, "batch keys"]]:
    """Return the inputs of an encoder-decoder: source, target without its last position, segments of the source."""
    source = field(batch, "source")
    return source, field(batch, "target")[:, :-1], (source != 0).astype(jnp.int32)


def pair_metrics(
    logits: Float[Array, "batch time vocabulary"], batch: Mapping, *, smoothing: float = 0.0
) -> dict[str, Mean]:
    """Return the loss (nats per token) and the accuracy of the logits of each target token but the first."""
    labels = field(batch, "target")[:, 1:]
    weights = (labels != 0) * example_weights(batch, len(labels))[:, None]
    return {
        "loss": weighted_mean(losses.cross_entropy(logits, labels, smoothing=smoothing), weights),
        "accuracy": weighted_mean(losses.hits(logits, labels), weights),
    }


def both_directions(model: Model | Callable) -> Loss:
    """Make the Loss of a bidirectional language model: the mean of predicting the next and the previous token.

    Peters et al. 2018, section 3.1. A batch has "words" int [batch, time, characters], "tokens" (the numbers of the
    words), "segments" and "positions", int [batch, time]. `model(words, segments)` returns (forward, backward) logits.
    Metrics are loss (nats per predicted token), forward and backward. Effect on `stats`: all the model's stats are
    passed on. The key is folded with "model".

    Raises UserError, while tracing, if the batch lacks a field or the logits do not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        words, (tokens, segments, _) = field(ctx.batch, "words"), inputs(ctx.batch)
        (forward, backward), stats = apply(params, ctx.stats, words, segments, key=draw(ctx.key, "model"), train=True)
        labels, weights = targets(ctx.batch)
        # Position t predicts t + 1 if both are of one segment; then t + 1 also predicts t.
        before = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))
        metrics = {
            "forward": weighted_mean(losses.cross_entropy(forward, labels), weights),
            "backward": weighted_mean(losses.cross_entropy(backward, before), jnp.roll(weights, 1, 1)),
        }
        total = metrics["forward"].sum + metrics["backward"].sum
        metrics["loss"] = metrics["forward"]._replace(sum=total, weight=2 * metrics["forward"].weight)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
