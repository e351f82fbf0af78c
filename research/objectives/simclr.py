"""SimCLR: make two views of an image more similar than views of different images (Chen et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from research import losses
from research.augment.view import two_views
from research.axes import Array, Float, Int
from research.core import Loss, Model, Out, draw, not_additive, weighted_mean
from research.fields import example_weights


def simclr(model: Model | Callable, *, view: Callable, temperature: float = 0.5, inputs: str = "image") -> Loss:
    """Make the NT-Xent loss of SimCLR (equation 1); `model` returns embeddings [batch, features].

    `model` is a Model or its `apply`. `view(key, batch) -> batch` is drawn twice for every example, and both views pass
    through the model in one batch. Every view is an anchor. Metrics are loss (nats, the mean over anchors) and
    accuracy: how often the nearest neighbour of an anchor is the other view of its example. Examples of mask 0 are
    neither anchors nor negatives. The negatives of an example are the rest of the (global) batch, so the loss does not
    add over examples and is NotAdditive. Effect on `stats`: all the model's stats are passed on. The key is folded with
    "view" and "model". No labels are read.

    Limit: with one example there are no negatives, and loss and gradient are 0. The paper evaluates the input of the
    projection head (the last layers), not these embeddings.
    """
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        images = jnp.concatenate(two_views(ctx.key, ctx.batch, view=view, inputs=inputs))
        embeddings, stats = apply(params, ctx.stats, images, key=draw(ctx.key, "model"), train=True)
        first, second = jnp.split(embeddings, 2)
        paired = pairs(first, second, temperature=temperature, weights=example_weights(ctx.batch, len(first)))
        metrics = {
            "loss": not_additive(weighted_mean(losses.cross_entropy(paired.logits, paired.labels), paired.weights)),
            "accuracy": weighted_mean(losses.hits(paired.logits, paired.labels), paired.weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


class Pairs(NamedTuple):
    """The task of finding each view's partner among all views; anchors of the first views come first."""

    logits: Float[Array, "2*batch 2*batch"]
    labels: Int[Array, " 2*batch"]
    weights: Float[Array, " 2*batch"]


def pairs(
    first: Float[Array, "batch features"],
    second: Float[Array, "batch features"],
    *,
    temperature: float,
    weights: Float[Array, " batch"],
) -> Pairs:
    """Make the Pairs of two views' embeddings; NT-Xent is the cross-entropy between logits and labels.

    Logits are cosine similarities over `temperature`. An anchor's similarity to itself, and to examples of weight 0, is
    replaced by a logit so low that its softmax probability is 0.
    """
    count = len(first)
    embeddings = losses.l2_normalize(jnp.concatenate([first, second]))
    weights = jnp.tile(weights, 2)
    is_candidate = (weights > 0) & ~jnp.eye(2 * count, dtype=bool)
    # Finite, because -inf would cause NaN in a batch that is all padding.
    logits = jnp.where(is_candidate, embeddings @ embeddings.T / temperature, -1e30)
    return Pairs(logits, (jnp.arange(2 * count) + count) % (2 * count), weights)
