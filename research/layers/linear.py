"""A linear layer that computes a plain product of two matrices, however many axes its input has."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
from flax import nnx
from jax import lax

from research.axes import Array, Float


def flatten_leading_axes(product: Callable, x: Float[Array, "*batch features"]) -> Float[Array, "*batch outputs"]:
    """Apply `product`, a linear map of the last axis by a matrix, to x; on CPU, flatten the leading axes first.

    The gradient of the matrix is then a product of two matrices, which XLA computes as x^T y. With two leading axes XLA
    computes (y^T x)^T, which takes up to three times as long.
    """
    if x.ndim == 2 or jax.default_backend() != "cpu":
        return product(x)
    *axes, features = x.shape
    y = product(x.reshape(math.prod(axes), features))
    return y.reshape(*axes, y.shape[-1])


def dot_general(
    x: Float[Array, "*batch features"], kernel: Float[Array, "features outputs"], _dimension_numbers=None, **options
) -> Float[Array, "*batch outputs"]:
    """Compute `lax.dot_general` for nnx.Linear's contraction: the last axis of x with the kernel's first axis."""
    return flatten_leading_axes(lambda x: lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())), **options), x)


Linear = functools.partial(nnx.Linear, dot_general=dot_general)
