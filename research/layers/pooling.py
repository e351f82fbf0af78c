"""Global pooling over all positions of an image or a sequence."""

from __future__ import annotations

import math

import jax

from research.axes import Array, Float


def global_max(x: Float[Array, "batch *space features"]) -> Float[Array, "batch features"]:
    """Return the largest value of each feature; positions that tie for it share the gradient.

    Trap: the derivative of a maximum looks for positions that equal it. XLA may recompute x for that with different
    rounding, find no such position, and return the gradient 0 / 0. The barrier makes XLA reuse the x that it reduced.
    """
    return jax.lax.optimization_barrier(x).reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1]).max(1)
