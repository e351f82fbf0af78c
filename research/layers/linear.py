"""A linear layer that multiplies two matrices, whatever axes its input has besides the features."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
from flax import nnx
from jax import lax

from research.axes import Array, Float


def by_rows(product: Callable, x: Float[Array, "*batch features"]) -> Float[Array, "*batch outputs"]:
    """`product` of x; it is a linear map of the last axis by some matrix.

    On CPU it gets the axes before the features as one: the gradient of its matrix is then a product of two matrices,
    which XLA finds as x^T y. Over two axes it computes (y^T x)^T, which takes up to three times as long.
    """
    if x.ndim == 2 or jax.default_backend() != "cpu":
        return product(x)
    *axes, features = x.shape
    y = product(x.reshape(math.prod(axes), features))
    return y.reshape(*axes, y.shape[-1])


def dot_general(
    x: Float[Array, "*batch features"], kernel: Float[Array, "features outputs"], _dimension_numbers=None, **options
) -> Float[Array, "*batch outputs"]:
    """`lax.dot_general` in the only form that nnx.Linear asks for."""
    return by_rows(lambda x: lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())), **options), x)


Linear = functools.partial(nnx.Linear, dot_general=dot_general)
