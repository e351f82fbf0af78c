"""How objectives and measures read a batch."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from research.errors import unknown


def field(batch, name: str):
    """`batch[name]`; raises UserError with the nearest name where the batch has no such field."""
    if name not in batch:
        raise unknown("batch field", name, batch)
    return batch[name]


def example_weights(batch, size: int):
    """The f32 weight [size] of every example: `batch["mask"]` (0 is padding), or ones where it has none."""
    mask = batch.get("mask")
    return jnp.ones(size, jnp.float32) if mask is None else jnp.asarray(mask, jnp.float32)


class Targets(NamedTuple):
    """What is to be predicted at every position, int [B, T], and its weight, f32 [B, T]: 0 where there is nothing."""

    labels: Any
    weights: Any


def inputs(batch):
    """The three inputs of a language model: tokens, segments and positions."""
    return tuple(field(batch, name) for name in ("tokens", "segments", "positions"))


def targets(batch) -> Targets:
    """The next token of every position, where it belongs to the same document (segment 0 is padding).

    Nothing is cut off: all arrays keep their length T, which is kind to the hardware, and the last position and
    every end of a document have weight 0.
    """
    tokens, segments, _ = inputs(batch)
    following = jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
    weights = (following == segments) & (following > 0)
    labels = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))).astype(jnp.int32)
    return Targets(labels, weights * example_weights(batch, len(tokens))[:, None])
