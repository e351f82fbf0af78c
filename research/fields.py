"""How objectives and measures read a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp

from research.axes import Array, Float, Int, Integer, Shaped
from research.errors import unknown


def field(batch: Mapping, name: str) -> Shaped[Array, "..."]:
    """`batch[name]`. Raises UserError with the nearest name if the batch has no such field."""
    if name not in batch:
        raise unknown("batch field", name, batch)
    return batch[name]


def example_weights(batch: Mapping, size: int) -> Float[Array, " {size}"]:
    """The f32 weight of each example: `batch["mask"]` (0 is padding), or ones if it has none."""
    mask = batch.get("mask")
    return jnp.ones(size, jnp.float32) if mask is None else jnp.asarray(mask, jnp.float32)


class Targets(NamedTuple):
    """The token to predict at each position, and its weight in f32: 0 if there is none."""

    labels: Int[Array, "batch time"]
    weights: Float[Array, "batch time"]


def inputs(
    batch: Mapping,
) -> tuple[Integer[Array, "batch time"], Integer[Array, "batch time"], Integer[Array, "batch time"]]:
    """The three inputs of a language model: tokens, segments and positions."""
    return tuple(field(batch, name) for name in ("tokens", "segments", "positions"))


def targets(batch: Mapping) -> Targets:
    """The next token of each position, if it belongs to the same document (segment 0 is padding).

    Nothing is cut off: all arrays keep their length, which is kind to the hardware, and the last position and each
    end of a document have weight 0.
    """
    tokens, segments, _ = inputs(batch)
    following = jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
    weights = (following == segments) & (following > 0)
    labels = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))).astype(jnp.int32)
    return Targets(labels, weights * example_weights(batch, len(tokens))[:, None])
