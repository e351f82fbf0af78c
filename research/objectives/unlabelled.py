"""Batches that hold unlabelled examples next to the labelled ones.

Each labelled example carries some unlabelled ones, [batch, ratio, ...] in one field (`research.data.sampling.paired`
makes such batches). Every field therefore has the leading axis `batch`: batches are split over devices and microbatches
as usual, and a loss that adds over unlabelled examples adds over labelled ones.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research.axes import Array, Float, Int, Scalar, Shaped
from research.core import Batch
from research.errors import UserError
from research.fields import field


def unlabelled_rows(batch: Batch, name: str, *, like: Shaped[Array, " _ *example"]) -> Shaped[Array, " _ *example"]:
    """Flatten the unlabelled examples `batch[name]` to one row each; `like` are the labelled ones.

    Raises UserError if the field is missing, or is not [batch, ratio, ...] for labelled examples [batch, ...].
    """
    rows = field(batch, name)
    if rows.ndim != like.ndim + 1 or rows.shape[:1] + rows.shape[2:] != like.shape:
        raise UserError(
            f"the field {name!r} has the shape {list(rows.shape)}; for labelled examples of {list(like.shape)} "
            f"expected {[len(like), 'mu', *like.shape[1:]]}: mu unlabelled examples for each labelled one."
        )
    return rows.reshape(-1, *like.shape[1:])


def mean_per_labelled(values: Float[Array, " _"], count: int) -> Float[Array, " {count}"]:
    """Average over the unlabelled examples of each of the `count` labelled ones."""
    return jnp.mean(values.reshape(count, -1), 1)


def value_at(weight: float | Scalar | Callable, step: Int[Array, ""]) -> float | Scalar:
    """Evaluate a weight at a step: a number, or a schedule `step -> number`."""
    return weight(step) if callable(weight) else weight
