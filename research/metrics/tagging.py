"""The measure of a tagger's evaluation: accuracy, also of words that are not in the training data, and entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from research.axes import Array, Bool, Integer, Num
from research.core import Mean, Rows, Trained, weighted_mean
from research.fields import example_weights, field
from research.metrics.entities import TagScheme, entity_counts


def tag_accuracy(
    predictions: Integer[Array, "*batch"],
    tags: Integer[Array, "*batch"],
    *,
    weights: Num[Array, "*batch"],
    known: Bool[Array, "*batch"] | None = None,
) -> dict[str, Mean]:
    """Return the Mean `accuracy` over the words and, with `known`, `accuracy_known` and `accuracy_unknown`.

    `known` is whether the training data contain the word. Words of weight 0 do not count.
    """
    hits = (jnp.asarray(predictions) == tags).astype(jnp.float32)
    means = {"accuracy": weighted_mean(hits, weights)}
    if known is not None:
        means["accuracy_known"] = weighted_mean(hits, weights * known)
        means["accuracy_unknown"] = weighted_mean(hits, weights * ~known)
    return means


def measure_tags(
    decode: Callable[[Trained, Mapping], Integer[Array, "batch time"]],
    *,
    known: Callable[[Mapping], Bool[Array, "batch time"]] | None = None,
    scheme: TagScheme | None = None,
) -> Callable:
    """Return the measure of a tagger's Eval: accuracy, and the row "prediction", i32 [batch, time], beside the tags.

    `decode(trained, batch)` returns the predicted tags. Batches hold "tags" [batch, time], -1 for padding; the rows are
    "tag" and "prediction", both -1 there. `known(batch)` adds the accuracies of known and unknown words (see
    `tag_accuracy`), and `scheme` adds `f1`, the F1 of entities. Examples of mask 0 do not count.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        tags = field(batch, "tags")
        mask = example_weights(batch, len(tags))
        weights = (tags >= 0) * mask[:, None]
        predictions = decode(trained, batch)
        metrics = tag_accuracy(predictions, tags, weights=weights, known=None if known is None else known(batch))
        if scheme is not None:
            metrics["f1"] = entity_counts(predictions, tags, scheme=scheme, weights=weights)
        rows = {"tag": tags, "prediction": jnp.where(tags >= 0, predictions, -1)}
        return {**metrics, "rows": Rows(rows, mask)}

    return measure
