"""Attachment scores of dependency trees (Buchholz & Marsi 2006): the share of words with the right head."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from research.axes import Array, Integer, Num
from research.core import Mean, Rows, Trained, weighted_mean
from research.fields import example_weights, field


def attachment_scores(
    heads: Integer[Array, "*batch"],
    relations: Integer[Array, "*batch"],
    *,
    true_heads: Integer[Array, "*batch"],
    true_relations: Integer[Array, "*batch"],
    weights: Num[Array, "*batch"],
) -> dict[str, Mean]:
    """Return the Means `uas` and `las` of predicted `heads` and `relations`, on the device or on the host.

    uas is the share of words with the right head (unlabelled attachment score), las that of words with the right head
    and relation. Words of weight 0, such as padding or punctuation, do not count.
    """
    attached = jnp.asarray(heads) == true_heads
    labelled = attached & (jnp.asarray(relations) == true_relations)
    scores = {"uas": attached, "las": labelled}
    return {name: weighted_mean(hits.astype(jnp.float32), weights) for name, hits in scores.items()}


def measure_attachment(parse: Callable[[Trained, Mapping], tuple]) -> Callable:
    """Return the measure of a parser's Eval: uas, las, and the rows "head" and "relation", -1 for padding.

    `parse(trained, batch)` returns heads within the sentence (0 is the root) and relations, as
    `research.models.parser.parse`. Batches hold "heads" and "relations", -1 for padding. All words count, punctuation
    too. Examples of mask 0 do not count.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        true = {f"true_{name}": field(batch, name) for name in ("heads", "relations")}
        heads, relations = parse(trained, batch)
        inside, mask = true["true_heads"] >= 0, example_weights(batch, len(heads))
        scores = attachment_scores(heads, relations, **true, weights=inside * mask[:, None])
        rows = {"head": jnp.where(inside, heads, -1), "relation": jnp.where(inside, relations, -1)}
        return {**scores, "rows": Rows(rows, mask)}

    return measure
