"""Pooling over all places of an image or a sequence."""

from __future__ import annotations

import math

import jax

from research.axes import Array, Float


def global_max(x: Float[Array, "batch *space features"]) -> Float[Array, "batch features"]:
    """The largest value of each feature; the gradient is shared by the places that have it.

    The derivative of a maximum looks for the places that equal it. XLA may compute x again for that, with other
    rounding, and then no place does: the gradient is 0 / 0. The barrier makes it keep the x that was reduced.
    """
    return jax.lax.optimization_barrier(x).reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1]).max(1)
