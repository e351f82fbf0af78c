"""Attachment scores of dependency trees (Buchholz & Marsi 2006): the share of words with the right head."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Integer, Num
from research.core import Mean, weighted_mean


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
