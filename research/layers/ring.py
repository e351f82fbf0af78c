"""Ring attention for sequences too long for one device: each device holds a part of every sequence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from research.axes import Array, Float, Integer
from research.distributed.sharding import num_shards
from research.errors import UserError
from research.layers.attention import attention, causal_mask, segment_mask


def ring_attention(
    q: Float[Array, "batch time heads head"],
    k: Float[Array, "batch time heads head"],
    v: Float[Array, "batch time heads head"],
    *,
    mask: Integer[Array, "batch time"] | None = None,
) -> Float[Array, "batch time heads head"]:
    """Compute exact causal attention with the sequences split over the mesh axis "context".

    Liu et al. 2023, arXiv:2310.01889. `mask` is not a boolean mask: it holds the segment numbers of packed documents.

    Each of the n devices keeps its queries and passes keys and values to the next device; the softmax accumulates over
    the parts (Milakov & Gimelshein 2018, algorithm 3). A device never holds more than the scores of 1/n of the queries
    by 1/n of the keys, because the backward pass recomputes them. Half of the work is on parts that the causal mask
    hides. Without an axis "context" the function is plain `attention`; the results agree up to rounding.

    Raises UserError if the sequence length is not a multiple of n, and inside a pipeline.
    """
    count, length = num_shards("context"), q.shape[1]
    if count == 1:
        causal = causal_mask(length)
        return attention(q, k, v, mask=causal if mask is None else causal & segment_mask(mask))
    if length % count:
        raise UserError(f"rows of {length} tokens cannot be split over {count} devices of mesh axis 'context'.")
    if jax.sharding.get_abstract_mesh().manual_axes:  # the backward pass does not compile there (jax 0.10.2, 0.12.0)
        raise UserError("ring_attention does not run inside a pipeline or another shard_map; use `attention` there.")
    segments = jnp.zeros(q.shape[:2], jnp.int32) if mask is None else mask
    spec = PartitionSpec(None, "context")
    # Only this axis is manual: the partitioner handles batch and heads.
    ring = jax.shard_map(
        lambda *parts: _ring(*parts, count=count), in_specs=(spec,) * 4, out_specs=spec, axis_names={"context"}
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
    """Compute one device's part of the output."""
    rank, length = jax.lax.axis_index("context"), q.shape[1]
    q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
    positions = jnp.arange(length)
    next_device = [(device, (device + 1) % count) for device in range(count)]

    @jax.checkpoint
    def accumulate(carry, turn):
        (k, v, key_segments), (running_max, normaliser, weighted_sum) = carry
        owner = (rank - turn) % count
        visible = rank * length + positions[:, None] >= owner * length + positions
        visible = visible & (segments[:, None, :, None] == key_segments[:, None, None])
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32)
        scores = scores + jnp.where(visible, 0.0, -1e30)
        # The first part is the device's own, in which every query sees itself. The running maximum is thus never the
        # score of a masked key.
        new_max = jnp.maximum(running_max, scores.max(-1))
        weights, rescale = jnp.exp(scores - new_max[..., None]), jnp.exp(running_max - new_max)
        weighted_sum = weighted_sum * rescale[..., None] + jnp.einsum(
            "bhts,bhsd->bhtd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
        )
        passed_on = jax.lax.ppermute((k, v, key_segments), "context", next_device)
        return (passed_on, (new_max, normaliser * rescale + weights.sum(-1), weighted_sum)), None

    initial = (jnp.full(q.shape[:3], -1e30), jnp.zeros(q.shape[:3]), jnp.zeros(q.shape, jnp.float32))
    initial = jax.lax.pcast(initial, ("context",), to="varying")
    (_, (_, normaliser, weighted_sum)), _ = jax.lax.scan(accumulate, ((k, v, segments), initial), jnp.arange(count))
    return (weighted_sum / normaliser[..., None]).astype(v.dtype).swapaxes(1, 2)
