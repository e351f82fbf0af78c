"""Secure aggregation: the server learns the sum of what its clients send, and no single part of it.

This is the arithmetic of Bonawitz et al. 2017 ("Practical secure aggregation", section 4, the pairwise masks) on one
machine. Its keys come from the run's, so it shows what the protocol computes and costs; it hides nothing from whoever
runs it. Key agreement, secret sharing and the second mask of the paper are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Key, PyTree, UInt32
from research.core import Mean, draw, repeat
from research.errors import UserError

ONE = 2**30  # what `limit` is in fixed point: the shares add up to 1, so a sum has a bit to spare


def secure(*, limit: float = 1.0, drop: float = 0.0) -> Callable:
    """An `aggregate` for `federated`: the weighted mean of the clients' updates by masked sums in whole numbers.

    A client sends `quantise(update, share) + pairwise_mask(...)` modulo 2^32, where its share is its weight over that
    of all; the weights are public. The masks cancel in the sum, bit for bit. Each client drops out with probability
    `drop` after the masks are agreed on; the server then computes its masks again (from seeds that the others hold in
    the paper) and the mean is over those who stayed.

    Every number of an update (of stats too) is held to +-limit. The mean is within clients / 2 * limit / 2^30 of the
    plain one, times all weights over those that stayed. A number that is not finite, of a client with weight, makes
    the mean NaN there: real clients would see it themselves. The work of a round grows with the square of its
    clients; with `at_once` in `federated` the protocol runs within each such group.

    Raises UserError for a limit that is not positive, a `drop` outside 0..1, and (tracing) for a single client, which
    nothing could hide.
    """
    if not 0 < limit < float("inf") or not 0 <= drop <= 1:
        raise UserError(f"secure(limit={limit}, drop={drop}); expected a positive limit and a drop from 0 to 1.")

    def aggregate(
        updates: PyTree[Float[Array, "clients ..."]], weights: Float[Array, " clients"], key: Key[Array, ""]
    ) -> Mean:
        clients = len(weights)
        if clients < 2:
            raise UserError("secure aggregation of a single client would show its update; give it at least two.")
        everyone = jnp.arange(clients)
        stays = jax.random.bernoulli(draw(key, "drop"), 1 - drop, (clients,))
        counts = stays & (weights > 0)
        shares = weights / (weights.sum() + (weights.sum() == 0))

        def total(number: int, x: Float[Array, " clients *entry"]) -> Float[Array, "*entry"]:
            along = (clients,) + (1,) * (x.ndim - 1)
            here, share, real = (v.reshape(along) for v in (stays, shares, counts))
            seed = draw(key, "leaf", number)
            masks = jax.vmap(lambda i: pairwise_mask(seed, i, clients=clients, shape=x.shape[1:]))(everyone)
            sent = quantise(jnp.where(share == 0, 0, x), limit=limit, share=share) + masks
            # All that the server sees: what was sent by those who stayed, and the masks of those who did not.
            sums = jnp.sum(jnp.where(here, sent, masks), 0, dtype=jnp.uint32)
            spoiled = jnp.any(~jnp.isfinite(x) & real, 0)
            return jnp.where(spoiled, jnp.nan, dequantise(sums, limit=limit) * weights.sum())

        leaves, form = jax.tree.flatten(updates)
        sums = form.unflatten([total(number, x) for number, x in enumerate(leaves)])
        return Mean(sums, jnp.sum(jnp.where(counts, weights, 0)))

    return aggregate


def quantise(
    x: Float[Array, "*entry"], *, limit: float, share: float | Float[Array, "*#entry"] = 1.0
) -> UInt32[Array, "*entry"]:
    """x held to +-limit, times share (0 to 1), in fixed point; negative numbers modulo 2^32.

    `limit` is 2^30. The sum modulo 2^32 is exact as long as the shares add up to at most 1.
    """
    fixed = jnp.round(jnp.clip(x, -limit, limit).astype(jnp.float32) * share * (ONE / limit))
    return jax.lax.bitcast_convert_type(fixed.astype(jnp.int32), jnp.uint32)


def dequantise(total: UInt32[Array, "*entry"], *, limit: float) -> Float[Array, "*entry"]:
    """The number that a sum of `quantise` stands for, in f32."""
    return jax.lax.bitcast_convert_type(total, jnp.int32).astype(jnp.float32) * (limit / ONE)


def pairwise_mask(
    key: Key[Array, ""], client: int | Int[Array, ""], *, clients: int, shape: tuple[int, ...]
) -> UInt32[Array, "..."]:
    """The uniform array of this shape that `client` (a number below `clients`) adds to all that it sends.

    Each two clients share a uniform array, which the one with the lower number adds and the other subtracts. Thus the
    masks of all clients add up to 0 modulo 2^32, and those of some to minus the rest (Bonawitz et al. 2017, section
    4.0.1). All of them agreed on `key`.
    """

    def add(mask, other):
        pair = draw(key, "pair", jnp.minimum(client, other), jnp.maximum(client, other))
        bits = jax.random.bits(pair, shape, jnp.uint32)
        return mask + jnp.where(client < other, bits, jnp.where(client > other, -bits, 0)), None

    return repeat(add, jnp.zeros(shape, jnp.uint32), jnp.arange(clients))[0]
