"""Dependency parsing: predict the head of every word and the relation to it."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research import losses
from research.core import Loss, Model, Out, draw, weighted_mean
from research.fields import example_weights, field
from research.models.parser import heads_in_row
from research.models.tagger import INPUTS


def dependencies(model: Model | Callable) -> Loss:
    """Make the Loss of a parser on a batch of "words", "characters", "segments", "heads" and "relations".

    `model` is a Model or its `apply`; it receives the first three arrays and returns ParseScores. "heads" are within
    the sentence (0 is the root), -1 for padding. The loss is the cross-entropy of the head of each word plus that of
    its relation, given the true head, in nats per word (Dozat & Manning 2017). Metrics are loss and `heads`, the share
    of words whose best head, without regard to the tree, is right. Effect on `stats`: all the model's stats are passed
    on. The key is folded with "model".

    Raises UserError, while tracing, if the batch lacks a field.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        inputs = [field(ctx.batch, name) for name in INPUTS]
        scores, stats = apply(params, ctx.stats, *inputs, key=draw(ctx.key, "model"), train=True)
        heads, relations = (field(ctx.batch, name) for name in ("heads", "relations"))
        weights = (heads >= 0) * example_weights(ctx.batch, len(heads))[:, None]
        places = heads_in_row(heads, inputs[-1])
        given = jnp.take_along_axis(scores.relations, places[..., None, None], 2)[:, :, 0]
        nats = losses.cross_entropy(scores.arcs, places) + losses.cross_entropy(given, jnp.maximum(relations, 0))
        mean = weighted_mean(nats, weights)
        hits = weighted_mean(losses.hits(scores.arcs, places), weights)
        return mean.value(), Out(stats, {"loss": mean, "heads": hits})

    return loss
