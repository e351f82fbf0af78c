"""Root mean square normalisation: layer normalisation without a mean and a bias."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Float
from research.layers.layer_norm import materialized


class RMSNorm(nnx.Module):
    """Divide the features of each example by their root mean square, then scale them (Zhang & Sennrich 2019).

    The layer computes in f32 and returns the dtype of its input.
    """

    def __init__(self, width, *, epsilon=1e-6):
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        return rms_norm(x, self.scale[...], self.epsilon)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def rms_norm(
    x: Float[Array, "*batch features"], scale: Float[Array, " features"], epsilon: float = 1e-6
) -> Float[Array, "*batch features"]:
    """Compute x / sqrt(mean(x^2) + epsilon) * scale over the last axis, in f32; keep the dtype of x.

    The derivative is written by hand for the reason that `layer_norm` states.
    """
    return materialized((_normalized(x, epsilon)[0] * scale).astype(x.dtype))


@rms_norm.defjvp
def _derivative(epsilon, primals, tangents):
    (x, scale), (dx, dscale) = primals, tangents
    y, inverse = _normalized(x, epsilon)
    dx, scale_copy = materialized(dx).astype(jnp.float32), materialized(scale)
    # The mean removes the component of dx along y.
    dy = inverse * (dx - y * (y * dx).mean(-1, keepdims=True))
    return materialized((y * scale).astype(x.dtype)), (dy * scale_copy + y * dscale).astype(x.dtype)


def _normalized(
    x: Float[Array, "*batch features"], epsilon: float
) -> tuple[Float[Array, "*batch features"], Float[Array, "*batch 1"]]:
    """Return x with a mean square of 1, and its inverse root mean square, in f32."""
    x = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)
    return x * inverse, inverse
