"""Global pooling over all positions of an image or a sequence."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from research.axes import Array, Float


def global_max(x: Float[Array, "batch *space features"]) -> Float[Array, "batch features"]:
    """Return the largest value of each feature; positions within 1e-5 of it, relatively, share the gradient."""
    return _max(jax.lax.optimization_barrier(x).reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1]))


@jax.custom_jvp
def _max(x: Float[Array, "batch positions features"]) -> Float[Array, "batch features"]:
    return x.max(1)


@_max.defjvp
def _derivative(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = x.max(1, keepdims=True)
    # Trap: XLA may compute x once for the maximum and again for the comparison, with different rounding, even though
    # the barrier asks it not to. If no position equalled the maximum, the gradient would be 0 / 0.
    largest = (x >= y - 1e-5 * jnp.abs(y)).astype(x.dtype)
    return y[:, 0], (dx * largest).sum(1) / largest.sum(1)
