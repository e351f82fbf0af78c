"""Losses of embeddings: pairs, triplets and contrast with negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Bool, Float, Integer
from research.errors import UserError, check_range, unknown
from research.losses.classification import cross_entropy


def l2_normalize(x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
    """Return x / |x| along the last axis, in f32.

    A vector shorter than 1e-6 is multiplied by 1e6: a zero vector stays zero, and its gradient is finite.
    """
    x = x.astype(jnp.float32)
    # Squares of large numbers would overflow. Division by a power of two, 1 for small vectors, changes no digit.
    largest = jnp.maximum(jnp.max(jnp.abs(jax.lax.stop_gradient(x)), -1, keepdims=True), 1)
    x = x / (largest / (2 * jnp.frexp(largest)[0]))
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), -1, keepdims=True), 1e-12))


def contrastive(margin: float = 1.0) -> Callable:
    """Return (first, second, same) -> loss per pair of embeddings [*batch, features] (Hadsell et al. 2006, equation 4).

    With d the Euclidean distance: d^2 / 2 for a pair of the same class (`same`, bool [*batch]), otherwise
    max(0, margin - d)^2 / 2. Raises UserError for a negative margin.
    """
    check_range("contrastive", margin=(margin, 0, float("inf")))

    def loss(
        first: Float[Array, "*batch features"], second: Float[Array, "*batch features"], same: Bool[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        d = _distance(first, second)
        return jnp.where(same, d, jax.nn.relu(margin - d)) ** 2 / 2

    return loss


def triplet(margin: float = 0.2) -> Callable:
    """Return (anchor, positive, negative) -> max(0, d(a, p) - d(a, n) + margin), d the Euclidean distance.

    Each is [*batch, features]. Weinberger & Saul 2009, equation 11, without the squares, as in Hermans et al. 2017.
    Raises UserError for a negative margin.
    """
    check_range("triplet", margin=(margin, 0, float("inf")))

    def loss(
        anchor: Float[Array, "*batch features"],
        positive: Float[Array, "*batch features"],
        negative: Float[Array, "*batch features"],
    ) -> Float[Array, "*batch"]:
        return jax.nn.relu(_distance(anchor, positive) - _distance(anchor, negative) + margin)

    return loss


class Anchors(NamedTuple):
    """The loss of each anchor, and its weight: 0 if the batch has no triplet for it."""

    loss: Float[Array, " batch"]
    weights: Float[Array, " batch"]


MINING = ("all", "hard", "semi_hard")


def check_mining(margin: float, mining: str) -> None:
    """Raise UserError for an unknown `mining`, with the nearest name, and for a negative margin."""
    check_range("triplets", margin=(margin, 0, float("inf")))
    if mining not in MINING:
        raise unknown("mining", mining, MINING)


def mined_triplet(
    embeddings: Float[Array, "batch features"],
    labels: Integer[Array, " batch"],
    *,
    margin: float = 0.2,
    mining: str = "hard",
    weights: Float[Array, " batch"] | None = None,
) -> Anchors:
    """Return the triplet loss of each embedding as an anchor, with triplets from the batch.

    `mining` selects the triplets of an anchor:
        hard        its farthest positive and nearest negative (Hermans et al. 2017, equation 5)
        semi_hard   all with d(a, p) < d(a, n) < d(a, p) + margin (Schroff et al. 2015, equation 4)
        all         all; the mean is over those with a loss above 0, the others only dilute it (Hermans, section 2)
    Embeddings of weight 0 are in no triplet. The loss of an anchor depends on the batch, thus it does not add over
    examples. Raises UserError for an unknown `mining` and a negative margin.
    """
    check_mining(margin, mining)
    real = jnp.ones(len(labels), bool) if weights is None else weights > 0
    d = _distance(embeddings[:, None], embeddings[None])
    usable = real[:, None] & real[None]
    same = labels[:, None] == labels[None]
    positives = same & usable & ~jnp.eye(len(labels), dtype=bool)
    negatives = ~same & usable
    if mining == "hard":
        farthest = jnp.max(d, -1, where=positives, initial=0)
        nearest = jnp.min(d, -1, where=negatives, initial=jnp.inf)
        has = positives.any(-1) & negatives.any(-1)
        return Anchors(jnp.where(has, jax.nn.relu(farthest - nearest + margin), 0), has.astype(jnp.float32))
    # [anchor, positive, negative]
    excess = d[:, :, None] - d[:, None, :]
    chosen = positives[:, :, None] & negatives[:, None, :] & (excess + margin > 0)
    if mining == "semi_hard":
        chosen &= excess < 0
    count = chosen.sum((1, 2))
    loss = jnp.sum(excess + margin, (1, 2), where=chosen) / jnp.maximum(count, 1)
    return Anchors(loss, (count > 0).astype(jnp.float32))


def info_nce(
    queries: Float[Array, "batch features"], keys: Float[Array, "batch features"], *, temperature: float = 0.1
) -> Float[Array, " batch"]:
    """Return -log softmax of the similarity of query i to key i, among all keys, in nats.

    van den Oord et al. 2018, equation 4. Similarities are cosines over `temperature`; the keys of other examples are
    the negatives. The mean is at least log(batch) minus the mutual information of queries and keys. For CLIP's loss,
    average it with the arguments exchanged. Raises UserError for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise UserError(f"info_nce(temperature={temperature}); expected a number above 0.")
    return cross_entropy(l2_normalize(queries) @ l2_normalize(keys).T / temperature, jnp.arange(len(queries)))


def _distance(first, second):
    squares = jnp.sum(jnp.square(first.astype(jnp.float32) - second.astype(jnp.float32)), -1)
    # The root has an infinite slope at 0, and infinity times a zero slope is NaN.
    return jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))
