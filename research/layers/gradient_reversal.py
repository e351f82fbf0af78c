"""The gradient reversal layer: the identity, whose gradient has the other sign."""

from __future__ import annotations

import jax

from research.axes import Array, Float, Scalar


@jax.custom_vjp
def reverse_gradient(x: Float[Array, "*batch"], scale: float | Scalar = 1.0) -> Float[Array, "*batch"]:
    """x as it is; backwards, the gradient times -`scale` (Ganin et al. 2016, eq. 16-17).

    `scale` is the paper's lambda, and gets no gradient. With scale 0 the layers below get no gradient from above; with
    -1 it is the identity in both directions. Not for forward-mode differentiation.
    """
    return x


def _forward(x, scale):
    return x, scale


def _backward(scale: float | Scalar, gradient: Float[Array, "*batch"]) -> tuple[Float[Array, "*batch"], None]:
    return (-scale * gradient).astype(gradient.dtype), None


reverse_gradient.defvjp(_forward, _backward)
