"""A linear layer that computes a plain product of two matrices, however many axes its input has."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRank:
    """A kernel with a low-rank update, kernel + a b, in the place of a Linear's kernel.

    The layer computes x kernel + (x a) b. The sum kernel + a b is never formed, neither in the forward pass nor for a
    gradient, and the gradients of `a` and `b` need no gradient of `kernel`. In a Stack all three have a leading axis.
    """

    kernel: Float[Array, "*layers features outputs"]
    a: Float[Array, "*layers features rank"]
    b: Float[Array, "*layers rank outputs"]

    def __getitem__(self, index) -> LowRank:
        """Index the leading axes of all three arrays. nnx.Linear reads its kernel as `kernel[...]`."""
        return jax.tree.map(lambda x: x[index], self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.kernel.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.kernel.dtype


def dot_general(
    x: Float[Array, "*batch features"],
    kernel: Float[Array, "features outputs"] | LowRank,
    _dimension_numbers=None,
    **options,
) -> Float[Array, "*batch outputs"]:
    """Compute `lax.dot_general` for nnx.Linear's contraction: the last axis of x with the kernel's first axis."""
    dot = lambda x, kernel: lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())), **options)

    def product(x):
        if not isinstance(kernel, LowRank):
            return dot(x, kernel)
        return dot(x, kernel.kernel) + dot(dot(x, kernel.a).astype(x.dtype), kernel.b)

    return flatten_leading_axes(product, x)


def _promote(arrays: tuple, **options) -> tuple:
    """Promote the input, kernel and bias of nnx.Linear to one dtype, as Flax does, and so the parts of a LowRank."""
    x, kernel, bias = arrays
    if not isinstance(kernel, LowRank):
        return promote_dtype(arrays, **options)
    x, bias, *parts = promote_dtype((x, bias, kernel.kernel, kernel.a, kernel.b), **options)
    return x, LowRank(*parts), bias


Linear = functools.partial(nnx.Linear, dot_general=dot_general, promote_dtype=_promote)
