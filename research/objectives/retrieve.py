"""Dense retrieval: embed queries and texts so that a query is nearest to the text that answers it."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research import losses
from research.core import Loss, Model, Out, draw, not_additive, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field


def retrieve(model: Model | Callable, *, temperature: float = 0.05) -> Loss:
    """Make the contrastive loss of dense retrieval (Karpukhin et al. 2020, arXiv:2004.04906, equation 2).

    `model` is a Model or its `apply`; it receives sparse texts, ids and values [batch, entries], and returns
    embeddings. A batch has the fields "query_ids" and "query_values", and the same of "text" and "negative". The loss,
    in nats, is -log softmax of the similarity of a query to its text, among all texts and negatives of the (global)
    batch; similarities are cosines over `temperature`. Metrics are loss and accuracy, the fraction of queries that are
    nearest to their text. Examples of mask 0 are neither queries nor candidates. The loss depends on the batch and is
    NotAdditive. Effect on `stats`: all the model's stats are passed on. The key is folded with the names of the fields.

    Limit: negatives that equal the texts of the batch add log 2 to the loss of the texts alone.
    Raises UserError for a temperature that is not above 0 and, while tracing, if the batch lacks a field.
    """
    if not temperature > 0:
        raise UserError(f"retrieve(temperature={temperature}); expected a number above 0.")
    apply = getattr(model, "apply", model)

    def loss(params, ctx):
        stats, found = ctx.stats, {}
        for name in ("query", "text", "negative"):
            inputs = [field(ctx.batch, f"{name}_{part}") for part in ("ids", "values")]
            embeddings, stats = apply(params, stats, *inputs, key=draw(ctx.key, name), train=True)
            found[name] = losses.l2_normalize(embeddings)
        weights = example_weights(ctx.batch, len(found["query"]))
        logits = found["query"] @ jnp.concatenate([found["text"], found["negative"]]).T / temperature
        logits = jnp.where(jnp.tile(weights, 2) > 0, logits, -1e30)  # finite, for a batch that is all padding
        labels = jnp.arange(len(logits))
        metrics = {
            "loss": not_additive(weighted_mean(losses.cross_entropy(logits, labels), weights)),
            "accuracy": weighted_mean(losses.hits(logits, labels), weights),
        }
        return metrics["loss"].value(), Out(stats, metrics)

    return loss
