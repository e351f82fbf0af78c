"""Prototypical networks: classify by the distance to the mean features of each class (Snell et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.axes import Array, Float, Integer, Shaped
from research.core import Loss, Model, Out, draw, weighted_mean
from research.data.sampling.few_shot import QUERY, SUPPORT
from research.fields import arguments, example_weights, field
from research.objectives.maml import part
from research.objectives.mmd import squared_distances


def prototypical(encoder: Model | Callable, *, ways: int, inputs: str | tuple[str, ...] = "image") -> Loss:
    """Learn features in which the queries of a task are near the mean of their class's support examples.

    Snell, Swersky & Zemel 2017 (arXiv:1703.05175), equation 2. A batch is one of `data.sampling.few_shot`, of tasks
    with `ways` classes. `encoder` is a Model or its `apply`, and maps the fields `inputs` to features
    [batch, features]. The loss of a task is the mean cross-entropy of its queries with the logits of
    `prototype_logits`. Metrics are loss (nats) and accuracy, both means over tasks. Effect on `stats`: those of the
    encoder are passed on. The key is folded with "model". Raises UserError for a batch without support or queries.
    """
    encode = getattr(encoder, "apply", encoder)

    def loss(params, ctx):
        support, query = part(ctx.batch, SUPPORT), part(ctx.batch, QUERY)
        sides = zip(arguments(support, inputs), arguments(query, inputs), strict=True)
        x = [jnp.concatenate(side, 1) for side in sides]
        features, stats = encode(params, ctx.stats, *map(flat, x), key=draw(ctx.key, "model"), train=True)
        features = features.reshape(*x[0].shape[:2], -1)
        count = field(support, "label").shape[1]
        logits = jax.vmap(lambda x, labels: prototype_logits(x[:count], labels, x[count:], ways=ways))
        logits = logits(features, support["label"])
        values, hits = (f(logits, query["label"]).mean(1) for f in (losses.cross_entropy, losses.hits))
        weights = example_weights(ctx.batch, len(values))
        metrics = {"loss": weighted_mean(values, weights), "accuracy": weighted_mean(hits, weights)}
        return metrics["loss"].value(), Out(stats, metrics)

    return loss


def prototype_logits(
    support: Float[Array, "batch features"], labels: Integer[Array, " batch"], query: Float[Array, "others features"],
    *, ways: int,
) -> Float[Array, "others classes"]:  # fmt: skip
    """Return minus the squared Euclidean distance of each query to the mean of the support features of each class."""
    members = labels == jnp.arange(ways)[:, None]
    prototypes = jax.vmap(lambda weights: weighted_mean(support, weights).value())(members)
    return -squared_distances(query, prototypes)


def flat(x: Shaped[Array, "tasks batch ..."]) -> Shaped[Array, " _ ..."]:
    """Join the examples of all tasks on one axis."""
    return x.reshape(-1, *x.shape[2:])
