"""Attention over rows that are too long for one device: each has its part of every row, and keys go round in a ring."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from research.axes import Array, Float, Integer
from research.distributed.sharding import ways
from research.errors import UserError
from research.layers.attention import attention, causal_mask, segment_mask


def ring_attention(
    q: Float[Array, "batch time heads head"],
    k: Float[Array, "batch time heads head"],
    v: Float[Array, "batch time heads head"],
    *,
    mask: Integer[Array, "batch time"] | None = None,
) -> Float[Array, "batch time heads head"]:
    """Causal attention, exact, with the rows split over the mesh's axis "context" (Liu et al. 2023, arXiv:2310.01889).
    Instead of a mask it takes the segments of packed documents.

    Each of the n devices keeps its queries, and passes its keys and values on to the next; the softmax is carried from
    part to part (Milakov & Gimelshein 2018, algorithm 3). No device ever holds more than the scores of 1/n of the
    queries by 1/n of the keys: the backward pass computes the scores anew. Half the work is on parts that a causal
    query may not see. Without such an axis it is plain `attention`, and gives the same to rounding.

    Raises UserError for rows that do not divide over the axis, and inside a pipeline.
    """
    count, length = ways("context"), q.shape[1]
    if count == 1:
        seen = causal_mask(length)
        return attention(q, k, v, mask=seen if mask is None else seen & segment_mask(mask))
    if length % count:
        raise UserError(f"rows of {length} tokens cannot be split over {count} devices of the mesh axis 'context'.")
    if jax.sharding.get_abstract_mesh().manual_axes:  # its backward pass does not compile there (jax 0.10.2, 0.12.0)
        raise UserError("ring_attention does not run inside a pipeline or another shard_map; take attention there.")
    segments = jnp.zeros(q.shape[:2], jnp.int32) if mask is None else mask
    split = PartitionSpec(None, "context")
    # Manual over this axis alone: batch and heads stay with the partitioner.
    ring = jax.shard_map(
        lambda *parts: _ring(*parts, count=count), in_specs=(split,) * 4, out_specs=split, axis_names={"context"}
    )
    return ring(q, k, v, segments)


def _ring(
    q: Float[Array, "batch time heads head"],
    k: Float[Array, "batch time heads head"],
    v: Float[Array, "batch time heads head"],
    segments: Integer[Array, "batch time"],
    *,
    count: int,
) -> Float[Array, "batch time heads head"]:
    """The work of one device, on its part of the rows."""
    here, length = jax.lax.axis_index("context"), q.shape[1]
    q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
    places = jnp.arange(length)
    onward = [(device, (device + 1) % count) for device in range(count)]

    @jax.checkpoint
    def take(carry, turn):
        (k, v, theirs), (top, total, mixed) = carry
        owner = (here - turn) % count
        seen = here * length + places[:, None] >= owner * length + places
        seen = seen & (segments[:, None, :, None] == theirs[:, None, None])
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32)
        scores = scores + jnp.where(seen, 0.0, -1e30)
        # The first part is the device's own, where every query sees itself: `top` is never that of masked scores alone.
        higher = jnp.maximum(top, scores.max(-1))
        weights, shrink = jnp.exp(scores - higher[..., None]), jnp.exp(top - higher)
        mixed = mixed * shrink[..., None] + jnp.einsum(
            "bhts,bhsd->bhtd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
        )
        kept = jax.lax.ppermute((k, v, theirs), "context", onward)
        return (kept, (higher, total * shrink + weights.sum(-1), mixed)), None

    nothing = (jnp.full(q.shape[:3], -1e30), jnp.zeros(q.shape[:3]), jnp.zeros(q.shape, jnp.float32))
    nothing = jax.lax.pcast(nothing, ("context",), to="varying")
    (_, (_, total, mixed)), _ = jax.lax.scan(take, ((k, v, segments), nothing), jnp.arange(count))
    return (mixed / total[..., None]).astype(v.dtype).swapaxes(1, 2)
