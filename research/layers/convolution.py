"""A convolution whose kernel gradient is matrix products on CPU, where XLA's own takes up to twelve times as long."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from research.axes import Array, Float
from research.distributed.sharding import BATCH_AXES, ways
from research.layers.linear import by_rows, dot_general

PIECE = 2**22  # bytes of windows that are cut out at a time, at least: about what a core's cache holds


def conv_general_dilated(
    x: Float[Array, "batch *space features"], kernel: Float[Array, "*window features//{feature_group_count} outputs"],
    strides, padding, *, lhs_dilation=None, rhs_dilation=None, dimension_numbers=None, feature_group_count: int = 1,
    **options,
) -> Float[Array, "batch *_space outputs"]:  # fmt: skip
    """`lax.conv_general_dilated` with features last: the same values and derivatives.

    On CPU the derivative by the kernel is computed as windows^T y (im2col, Chellapilla et al. 2006), unless x is
    dilated or the features are in groups. The other two products are XLA's, which are fast but for kernels of one
    place: those are a matrix, and multiplying the places by it takes a third to four fifths of the time.
    """
    ones = (1,) * len(strides)
    lhs_dilation, rhs_dilation = lhs_dilation or ones, rhs_dilation or ones
    plain = dict(lhs_dilation=lhs_dilation, feature_group_count=feature_group_count, **options)
    if jax.default_backend() != "cpu" or feature_group_count > 1 or any(d > 1 for d in lhs_dilation):
        return lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers, **plain
        )
    if isinstance(padding, str):
        reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel.shape[:-2], rhs_dilation, strict=True)]
        padding = lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    if max(kernel.shape[:-2]) == 1 and not any(map(any, padding)):
        x = lax.slice(x, (0,) * x.ndim, x.shape, (1, *strides, 1))
        return dot_general(x, kernel.reshape(kernel.shape[-2:]), **options)
    form = tuple(strides), tuple((int(low), int(high)) for low, high in padding), tuple(rhs_dilation)
    return _convolution(x, kernel, form, dimension_numbers, tuple(options.items()))


Conv = functools.partial(nnx.Conv, conv_general_dilated=conv_general_dilated)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _convolution(x, kernel, form, dimension_numbers, options):
    strides, padding, dilation = form
    return lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=dimension_numbers, **dict(options)
    )  # fmt: skip


@functools.partial(_convolution.defjvp, symbolic_zeros=True)
def _(form, dimension_numbers, options, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y, change = _convolution(x, kernel, form, dimension_numbers, options), 0
    if not isinstance(dx, jax.custom_derivatives.SymbolicZero):  # the images of the first layer
        change = _convolution(dx, kernel, form, dimension_numbers, options)
    if not isinstance(dkernel, jax.custom_derivatives.SymbolicZero):
        change += _products(x, dkernel, form).astype(y.dtype)
    return y, change


def _products(x, kernel, form):
    """The convolution as a function of the kernel, to be transposed: windows @ kernel, some examples at a time.

    The transpose adds up windows^T y over the pieces. It cuts the windows out again, since all of them at once would
    be larger than x by as many times as the kernel has places.
    """
    strides, padding, dilation = form
    edges = ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0))
    reach = [(size - 1) * d for size, d in zip(kernel.shape[:-2], dilation, strict=True)]
    sizes = [n + low + high for n, (low, high) in zip(x.shape[1:-1], padding, strict=True)]
    outputs = [(n - r - 1) // stride + 1 for n, r, stride in zip(sizes, reach, strides, strict=True)]
    places = list(itertools.product(*(range(0, r + 1, d) for r, d in zip(reach, dilation, strict=True))))

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def product(x, kernel):
        x = lax.pad(x, jnp.zeros((), x.dtype), edges)  # here: the backward pass then keeps x alone

        def cut(place):
            end = [p + (n - 1) * stride + 1 for p, n, stride in zip(place, outputs, strides, strict=True)]
            return lax.slice(x, (0, *place, 0), (len(x), *end, x.shape[-1]), (1, *strides, 1))

        windows = jnp.concatenate([cut(place) for place in places], -1)
        kernel = kernel.reshape(-1, kernel.shape[-1])
        product = lambda rows: jnp.matmul(rows, kernel.astype(x.dtype), preferred_element_type=kernel.dtype)
        return by_rows(product, windows)

    def pieces(x, kernel):
        example = math.prod(outputs) * len(places) * x.shape[-1] * x.dtype.itemsize
        # Each piece adds an array of the kernel's size to their sum: that is not to take as long as the product.
        most = max(PIECE, 2 * math.prod(kernel.shape) * kernel.dtype.itemsize)
        count = next(n for n in range(len(x), 0, -1) if len(x) % n == 0 and (n * example <= most or n == 1))
        if count == len(x):
            return product(x, kernel)
        _, y = lax.scan(lambda _, x: (None, product(x, kernel)), None, x.reshape(-1, count, *x.shape[1:]))
        return y.reshape(-1, *y.shape[2:])

    kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))  # in which the pieces are added up
    parts = ways(*BATCH_AXES)
    if parts == 1 or len(x) % parts:
        return pieces(x, kernel)
    # Each device adds up its own examples, and the sums are added up once.
    split = x.reshape(parts, -1, *x.shape[1:])
    y = jax.vmap(pieces)(split, jnp.broadcast_to(kernel, (parts, *kernel.shape)))
    return y.reshape(-1, *y.shape[2:])
