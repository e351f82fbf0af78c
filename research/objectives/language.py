"""Language modelling: the next token of packed documents."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from research import losses
from research.core import Loss, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.layers.experts import Routed


class Targets(NamedTuple):
    """What is to be predicted at every position, int [B, T], and its weight, f32 [B, T]: 0 where there is nothing."""

    labels: Any
    weights: Any


def language(model, *, smoothing: float = 0.0, balance: float = 0.01) -> Loss:
    """The Loss of a language model on a batch of {"tokens", "segments", "positions"}, each int [B, T].

    `model` is a Model or its `apply`, called with these three and giving logits [B, T, V]. Metrics are loss (nats a
    token) and accuracy. All the model's stats are passed on; the key is folded with "model".

    A model of experts gives Routed(logits, its load-balance losses [B]): their mean, each row's weighted by its
    tokens, becomes the metric `balance`, and `balance` times it is added to the loss (Fedus et al. 2021, section 2.2).

    Raises UserError while tracing where the batch lacks a field or the logits do not fit.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        logits, stats = apply(params, ctx.stats, *inputs(ctx.batch), key=draw(ctx.key, "model"), train=True)
        logits, uneven = logits if isinstance(logits, Routed) else (logits, None)
        labels, weights = targets(ctx.batch)
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(logits, labels, smoothing=smoothing), weights),
            "accuracy": weighted_mean(losses.hits(logits, labels), weights),
        }
        if uneven is not None:
            mean = metrics["balance"] = weighted_mean(uneven, weights.sum(-1))
            metrics["loss"] = metrics["loss"]._replace(sum=metrics["loss"].sum + balance * mean.sum)
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def inputs(batch):
    """The three inputs of a language model: tokens, segments and positions."""
    return tuple(field(batch, name) for name in ("tokens", "segments", "positions"))


def targets(batch) -> Targets:
    """The next token of every position, where it belongs to the same document (segment 0 is padding).

    Nothing is cut off: all arrays keep their length T, which is kind to the hardware, and the last position and
    every end of a document have weight 0.
    """
    tokens, segments, _ = inputs(batch)
    following = jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
    weights = (following == segments) & (following > 0)
    labels = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))).astype(jnp.int32)
    return Targets(labels, weights * example_weights(batch, len(tokens))[:, None])
