"""Batches with unlabelled examples beside the labelled ones.

Each labelled example carries mu unlabelled ones, [B, mu, ...] in one field (`research.data.sampling.paired` makes such
batches). So every field has the leading axis B: batches are split over devices and microbatches as always, and a
loss that adds over unlabelled examples adds over labelled ones.
"""

import jax.numpy as jnp

from research.errors import UserError
from research.fields import field


def unlabelled_rows(batch, name: str, *, like):
    """The unlabelled examples `batch[name]` [B, mu, ...] as [B * mu, ...]; `like` are the labelled ones, [B, ...].

    Raises UserError where the field is missing or has another shape.
    """
    rows = field(batch, name)
    if rows.ndim != like.ndim + 1 or rows.shape[:1] + rows.shape[2:] != like.shape:
        raise UserError(
            f"the field {name!r} has the shape {list(rows.shape)}; beside labelled examples of {list(like.shape)} "
            f"expected {[len(like), 'mu', *like.shape[1:]]}: mu unlabelled examples for each labelled one."
        )
    return rows.reshape(-1, *like.shape[1:])


def per_labelled(values, count: int):
    """The mean over the unlabelled examples of each labelled one: [B * mu] -> [B], B being `count`."""
    return jnp.mean(values.reshape(count, -1), 1)


def amount(weight, step):
    """A weight at a step: a number, or a schedule `step -> number`."""
    return weight(step) if callable(weight) else weight
