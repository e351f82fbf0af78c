"""Weighted sums of losses."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from research.axes import Array, Float, Shaped
from research.errors import UserError


def combined(**terms: tuple[float, Callable]) -> Callable:
    """Return `(outputs, targets) -> loss per example`, the weighted sum of `terms`, {name: (weight, loss)}.

    For example, combined(cross_entropy=(1.0, cross_entropy), dice=(0.5, dice())). A term with more than one value per
    example (per pixel, per label) counts with their mean. The names appear in errors. For a weighted sum of objectives
    that share a network, with a metric for each, see `objectives.multi_task`.
    Raises UserError without terms, for a term that is not (number, function), and for a weight that is not finite.
    """
    if not terms:
        raise UserError("combined() has no terms; expected, for example, combined(dice=(0.5, dice())).")
    for name, term in terms.items():
        pair = isinstance(term, tuple) and len(term) == 2 and callable(term[1])
        if not pair or isinstance(term[0], bool) or not jnp.isfinite(term[0]):
            raise UserError(f"the term {name}={term!r}; expected (weight, loss), for example (0.5, dice()).")

    def loss(outputs: Shaped[Array, "batch ..."], targets: Shaped[Array, "batch ..."]) -> Float[Array, " batch"]:
        total = jnp.zeros(len(outputs), jnp.float32)
        for name, (weight, term) in terms.items():
            values = term(outputs, targets)
            if values.shape[:1] != total.shape:
                raise UserError(f"the term {name!r} has the shape {list(values.shape)}; expected [{len(total)}, ...].")
            total += weight * values.reshape(len(total), -1).mean(-1)
        return total

    return loss
