"""A linear layer that computes a plain product of two matrices, however many axes its input has."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax import lax

from research.axes import Array, Float


def flatten_leading_axes(product: Callable, x: Float[Array, "*batch features"]) -> Float[Array, "*batch outputs"]:
    """Apply `product`, a map of the last axis by matrices, to x; on CPU, flatten the leading axes first.

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
class TunedKernel:
    """A kernel and the arrays that fine-tune it, in the place of a Linear's kernel; made by a wrapper such as `lora`.

    The layer computes `compute(dot, x, kernel, **parts)` in the place of `dot(x, kernel)`, the product of the last axis
    of x with a matrix. In a Stack all arrays have a leading axis.
    """

    kernel: Float[Array, "*layers features outputs"]
    parts: Mapping[str, Float[Array, "..."]]
    compute: Callable[..., Float[Array, "..."]] = dataclasses.field(metadata={"static": True})

    def __getitem__(self, index) -> TunedKernel:
        """Index the leading axes of all arrays. nnx.Linear reads its kernel as `kernel[...]`."""
        return jax.tree.map(lambda x: x[index], self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.kernel.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.kernel.dtype


def dot_general(
    x: Float[Array, "*batch features"],
    kernel: Float[Array, "features outputs"] | TunedKernel,
    _dimension_numbers=None,
    **options,
) -> Float[Array, "*batch outputs"]:
    """Compute `lax.dot_general` for nnx.Linear's contraction: the last axis of x with the kernel's first axis."""
    dot = lambda x, kernel: lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())), **options)

    def product(x):
        if isinstance(kernel, TunedKernel):
            return kernel.compute(dot, x, kernel.kernel, **kernel.parts)
        return dot(x, kernel)

    return flatten_leading_axes(product, x)


def _promote(arrays: tuple, **options) -> tuple:
    """Promote the input, kernel and bias of nnx.Linear to one dtype, as Flax does, and so the parts of a kernel."""
    x, kernel, bias = arrays
    leaves, tree = jax.tree.flatten(kernel)
    x, bias, *leaves = promote_dtype((x, bias, *leaves), **options)
    return x, tree.unflatten(leaves), bias


Linear = functools.partial(nnx.Linear, dot_general=dot_general, promote_dtype=_promote)
