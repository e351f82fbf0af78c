"""Secure aggregation: the server learns the sum of the clients' updates and no individual update.

This is the arithmetic of Bonawitz et al. 2017 ("Practical secure aggregation", section 4, the pairwise masks) on one
machine. All keys derive from the run's seed, so this shows what the protocol computes and costs, but hides nothing from
whoever runs it. The paper's key agreement, secret sharing and second mask are omitted.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Key, PyTree, UInt32
from research.core import Mean, draw, repeat
from research.errors import UserError

FIXED_POINT_SCALE = 2**30  # `limit` in fixed point; the fractions add up to 1, so an int32 sum has one spare bit


def secure(*, limit: float = 1.0, drop: float = 0.0) -> Callable:
    """Make an `aggregate` for `federated`: the weighted mean of the clients' updates, by masked integer sums.

    Each client sends `quantise(update, fraction) + pairwise_mask(...)` modulo 2^32. The fraction is its weight divided
    by the total weight; the weights are public. The masks cancel in the sum, bit for bit. Each client drops out with
    probability `drop` after the masks are agreed on. The server then recomputes its mask (in the paper, from seeds that
    the other clients hold), and the mean is over the remaining clients.

    Every number of an update, stats included, is clipped to +-limit. The mean is within clients / 2 * limit / 2^30 of
    the plain one, times (all weights / remaining weights). A non-finite number from a client with weight makes that
    entry of the mean NaN; real clients would detect it themselves. The work of a round grows with the square of the
    number of clients. With `at_once` in `federated` the protocol runs within each group.

    Raises UserError if the limit is not positive or `drop` is outside 0..1; while tracing, for a single client, whose
    update a sum would reveal.
    """
    if not 0 < limit < float("inf") or not 0 <= drop <= 1:
        raise UserError(f"secure(limit={limit}, drop={drop}); expected a positive limit and a drop from 0 to 1.")

    def aggregate(
        updates: PyTree[Float[Array, "clients ..."]], weights: Float[Array, " clients"], key: Key[Array, ""]
    ) -> Mean:
        clients = len(weights)
        if clients < 2:
            raise UserError("secure aggregation of a single client would reveal its update; use at least two.")
        client_ids = jnp.arange(clients)
        remaining = jax.random.bernoulli(draw(key, "drop"), 1 - drop, (clients,))
        counts = remaining & (weights > 0)
        fractions = weights / (weights.sum() + (weights.sum() == 0))

        def masked_sum(number: int, x: Float[Array, " clients *entry"]) -> Float[Array, "*entry"]:
            client_axis = (clients,) + (1,) * (x.ndim - 1)
            is_remaining, fraction, has_weight = (v.reshape(client_axis) for v in (remaining, fractions, counts))
            seed = draw(key, "leaf", number)
            masks = jax.vmap(lambda i: pairwise_mask(seed, i, clients=clients, shape=x.shape[1:]))(client_ids)
            sent = quantise(jnp.where(fraction == 0, 0, x), limit=limit, share=fraction) + masks
            # The server sees only this sum: messages of the remaining clients and masks of those that dropped out.
            sums = jnp.sum(jnp.where(is_remaining, sent, masks), 0, dtype=jnp.uint32)
            nonfinite = jnp.any(~jnp.isfinite(x) & has_weight, 0)
            return jnp.where(nonfinite, jnp.nan, dequantise(sums, limit=limit) * weights.sum())

        leaves, treedef = jax.tree.flatten(updates)
        sums = treedef.unflatten([masked_sum(number, x) for number, x in enumerate(leaves)])
        return Mean(sums, jnp.sum(jnp.where(counts, weights, 0)))

    return aggregate


def quantise(
    x: Float[Array, "*entry"], *, limit: float, share: float | Float[Array, "*#entry"] = 1.0
) -> UInt32[Array, "*entry"]:
    """Clip x to +-limit, multiply by share (0 to 1) and convert to fixed point; negatives wrap modulo 2^32.

    `limit` maps to 2^30. The sum modulo 2^32 is exact as long as the shares add up to at most 1.
    """
    fixed = jnp.round(jnp.clip(x, -limit, limit).astype(jnp.float32) * share * (FIXED_POINT_SCALE / limit))
    return jax.lax.bitcast_convert_type(fixed.astype(jnp.int32), jnp.uint32)


def dequantise(total: UInt32[Array, "*entry"], *, limit: float) -> Float[Array, "*entry"]:
    """Convert a sum of `quantise` results back to numbers, in f32."""
    return jax.lax.bitcast_convert_type(total, jnp.int32).astype(jnp.float32) * (limit / FIXED_POINT_SCALE)


def pairwise_mask(
    key: Key[Array, ""], client: int | Int[Array, ""], *, clients: int, shape: tuple[int, ...]
) -> UInt32[Array, "..."]:
    """Return the uniform mask that `client` (an index below `clients`) adds to everything that it sends.

    Each pair of clients shares a uniform array, derived from the agreed `key`. The client with the lower index adds it,
    the other subtracts it. The masks of all clients therefore sum to 0 modulo 2^32, and the masks of a subset sum to
    minus those of the rest (Bonawitz et al. 2017, section 4.0.1).
    """

    def add(mask, other):
        pair = draw(key, "pair", jnp.minimum(client, other), jnp.maximum(client, other))
        bits = jax.random.bits(pair, shape, jnp.uint32)
        return mask + jnp.where(client < other, bits, jnp.where(client > other, -bits, 0)), None

    return repeat(add, jnp.zeros(shape, jnp.uint32), jnp.arange(clients))[0]
