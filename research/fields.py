"""How objectives and measures read a batch."""

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
