"""The gradient reversal layer: the identity with a negated gradient."""

from __future__ import annotations

import jax

from research.axes import Array, Float, Scalar


@jax.custom_vjp
def reverse_gradient(x: Float[Array, "*batch"], scale: float | Scalar = 1.0) -> Float[Array, "*batch"]:
    """Return x unchanged; the backward pass multiplies its gradient by -`scale` (Ganin et al. 2016, equations 16-17).

    `scale` is the paper's lambda and has no gradient. With scale 0, the layers below receive no gradient from above.
    With scale -1, the function is the identity in both passes. It does not support forward-mode differentiation.
    """
    return x


def _forward(x, scale):
    return x, scale


def _backward(scale: float | Scalar, gradient: Float[Array, "*batch"]) -> tuple[Float[Array, "*batch"], None]:
    return (-scale * gradient).astype(gradient.dtype), None


reverse_gradient.defvjp(_forward, _backward)
