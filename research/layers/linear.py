"""A linear layer that multiplies two matrices, whatever axes its input has besides the features."""

import functools
import math

import jax
from flax import nnx
from jax import lax


def by_rows(product, x):
    """`product` of x: [..., features] -> [..., out], where it is a linear map of the last axis by some matrix.

    On CPU it gets the axes before the features as one: the gradient of its matrix is then a product of two matrices,
    which XLA finds as x^T y. Over two axes it computes (y^T x)^T, which takes up to three times as long.
    """
    if x.ndim == 2 or jax.default_backend() != "cpu":
        return product(x)
    *axes, features = x.shape
    y = product(x.reshape(math.prod(axes), features))
    return y.reshape(*axes, y.shape[-1])


def dot_general(x, kernel, _dimension_numbers=None, **options):
    """`lax.dot_general` of [..., features] with [features, out], which is the only form that nnx.Linear asks for."""
    return by_rows(lambda x: lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())), **options), x)


Linear = functools.partial(nnx.Linear, dot_general=dot_general)
