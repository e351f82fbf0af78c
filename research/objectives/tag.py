"""Tagging: predict a tag for every word of packed sentences."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research import losses
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.layers.crf import Chain, chain_loss
from research.models.tagger import INPUTS


def tag(model: Model | Callable) -> Loss:
    """Make the Loss of a tagger on a batch of "words", "characters", "segments" and "tags" (-1 for padding).

    `model` is a Model or its `apply`; it receives the first three arrays and returns logits [batch, time, tags], or a
    Chain. The loss is the cross-entropy, or -log p of the sequences, in nats per word. With a Chain whose transitions
    are all 0, the two are equal. Effect on `stats`: all the model's stats are passed on. The key is folded with
    "model".

    Raises UserError, while tracing, if the batch lacks a field.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        inputs = [field(ctx.batch, name) for name in INPUTS]
        outputs, stats = apply(params, ctx.stats, *inputs, key=draw(ctx.key, "model"), train=True)
        tags = field(ctx.batch, "tags")
        weights = (tags >= 0) * example_weights(ctx.batch, len(tags))[:, None]
        tags = jnp.maximum(tags, 0)
        if isinstance(outputs, Chain):
            words = weights.sum(1)
            mean = weighted_mean(chain_loss(outputs, tags, segments=inputs[-1]) / jnp.maximum(words, 1), words)
        else:
            mean = weighted_mean(losses.cross_entropy(outputs, tags), weights)
        return mean.value(), Out(stats, {"loss": mean})

    return loss
