"""Access to the fields of a batch, for objectives and measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp

from research.axes import Array, Float, Int, Integer, Shaped
from research.errors import UserError, unknown


def field(batch: Mapping, name: str) -> Shaped[Array, "..."]:
    """Return `batch[name]`. Raises UserError with the nearest name if the batch has no such field."""
    if name not in batch:
        raise unknown("batch field", name, batch)
    return batch[name]


def arguments(batch: Mapping, names: str | tuple[str, ...]) -> tuple[Shaped[Array, "batch ..."], ...]:
    """Return the fields that are the arguments of a model, in their order; `names` is one name or several."""
    return tuple(field(batch, name) for name in ((names,) if isinstance(names, str) else names))


def class_numbers(batch: Mapping, name: str) -> Integer[Array, " batch"]:
    """Return the class numbers `batch[name]`. Raises UserError if they have another shape or dtype, such as one-hot."""
    labels = field(batch, name)
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        hint = " For one-hot labels: labels.argmax(-1)." if labels.ndim == 2 else ""
        raise UserError(f"{name!r} is {labels.dtype}{list(labels.shape)}; expected class numbers, int [batch].{hint}")
    return labels


def example_weights(batch: Mapping, size: int) -> Float[Array, " {size}"]:
    """Return the f32 weight of each example: `batch["mask"]` (0 for padding), or ones if the batch has no mask."""
    mask = batch.get("mask")
    return jnp.ones(size, jnp.float32) if mask is None else jnp.asarray(mask, jnp.float32)


class Targets(NamedTuple):
    """The token to predict at each position, and its f32 weight, which is 0 if there is no token to predict."""

    labels: Int[Array, "batch time"]
    weights: Float[Array, "batch time"]


def inputs(
    batch: Mapping,
) -> tuple[Integer[Array, "batch time"], Integer[Array, "batch time"], Integer[Array, "batch time"]]:
    """Return the inputs of a language model: tokens, segments and positions."""
    return tuple(field(batch, name) for name in ("tokens", "segments", "positions"))


def targets(batch: Mapping) -> Targets:
    """Return the next token of each position and its weight: 0 at the end of a document, and for padding (segment 0).

    The arrays are not shortened by one position, because accelerators are more efficient with round lengths. The last
    position of each row has weight 0 instead. If the batch has the field "response", [batch, time], it is multiplied by
    that of the token to predict: 0 for the tokens of a prompt, 1 for those of a response.
    """
    tokens, segments, _ = inputs(batch)
    following = lambda x: jnp.pad(x[:, 1:], ((0, 0), (0, 1)))
    next_segments = following(segments)
    weights = (next_segments == segments) & (next_segments > 0)
    if "response" in batch:
        weights = weights * following(batch["response"])
    labels = following(tokens).astype(jnp.int32)
    return Targets(labels, weights * example_weights(batch, len(tokens))[:, None])
