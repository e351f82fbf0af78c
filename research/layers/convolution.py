"""A convolution whose kernel gradient is a matrix product on CPU, up to twelve times as fast as XLA's."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from research.axes import Array, Float
from research.distributed.sharding import BATCH_AXES, num_shards
from research.layers.linear import dot_general, flatten_leading_axes

PIECE = 2**22  # lower bound of the bytes of windows per chunk: about the size of a core's cache


def conv_general_dilated(
    x: Float[Array, "batch *space features"], kernel: Float[Array, "*window features//{feature_group_count} outputs"],
    strides, padding, *, lhs_dilation=None, rhs_dilation=None, dimension_numbers=None, feature_group_count: int = 1,
    batch_group_count: int = 1, **options,
) -> Float[Array, "batch//{batch_group_count} *_space outputs"]:  # fmt: skip
    """Compute `lax.conv_general_dilated` with features last; values and derivatives are the same.

    On CPU the kernel gradient is computed as windows^T y (im2col, Chellapilla et al. 2006), unless x is dilated or the
    features or examples are grouped. The output and the input gradient use XLA's convolutions, which are fast. The
    exception is an unpadded kernel of size 1: it is a single matrix, and a matrix product over the positions takes a
    third to four fifths of the time.
    """
    ones = (1,) * len(strides)
    lhs_dilation, rhs_dilation = lhs_dilation or ones, rhs_dilation or ones
    is_special = feature_group_count > 1 or batch_group_count > 1 or any(d > 1 for d in lhs_dilation)
    if jax.default_backend() != "cpu" or is_special:
        return lax.conv_general_dilated(
            x, kernel, strides, padding, lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers, feature_group_count=feature_group_count,
            batch_group_count=batch_group_count, **options,
        )  # fmt: skip
    if isinstance(padding, str):
        extents = [(size - 1) * dilation + 1 for size, dilation in zip(kernel.shape[:-2], rhs_dilation, strict=True)]
        padding = lax.padtype_to_pads(x.shape[1:-1], extents, strides, padding)
    if max(kernel.shape[:-2]) == 1 and not any(map(any, padding)):
        x = lax.slice(x, (0,) * x.ndim, x.shape, (1, *strides, 1))
        return dot_general(x, kernel.reshape(kernel.shape[-2:]), **options)
    geometry = tuple(strides), tuple((int(low), int(high)) for low, high in padding), tuple(rhs_dilation)
    return _convolution(x, kernel, geometry, dimension_numbers, tuple(options.items()))


Conv = functools.partial(nnx.Conv, conv_general_dilated=conv_general_dilated)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _convolution(x, kernel, geometry, dimension_numbers, options):
    strides, padding, dilation = geometry
    return lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=dimension_numbers, **dict(options)
    )  # fmt: skip


@functools.partial(_convolution.defjvp, symbolic_zeros=True)
def _(geometry, dimension_numbers, options, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    y, dy = _convolution(x, kernel, geometry, dimension_numbers, options), 0
    if not isinstance(dx, jax.custom_derivatives.SymbolicZero):  # the first layer's input images have no tangent
        dy = _convolution(dx, kernel, geometry, dimension_numbers, options)
    if not isinstance(dkernel, jax.custom_derivatives.SymbolicZero):
        dy += _as_matrix_product(x, dkernel, geometry).astype(y.dtype)
    return y, dy


def _as_matrix_product(x, kernel, geometry):
    """Compute the convolution as a linear function of the kernel, which JAX transposes: windows @ kernel, by chunks.

    A chunk holds a few examples. The transpose sums windows^T y over the chunks. It extracts the windows again: storing
    all of them would need the memory of x times the number of kernel positions.
    """
    strides, padding, dilation = geometry
    padding_config = ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0))
    spans = [(size - 1) * d for size, d in zip(kernel.shape[:-2], dilation, strict=True)]
    sizes = [n + low + high for n, (low, high) in zip(x.shape[1:-1], padding, strict=True)]
    outputs = [(n - r - 1) // stride + 1 for n, r, stride in zip(sizes, spans, strides, strict=True)]
    offsets = list(itertools.product(*(range(0, r + 1, d) for r, d in zip(spans, dilation, strict=True))))

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def product(x, kernel):
        # Padding inside the checkpoint lets the backward pass store only the unpadded x.
        x = lax.pad(x, jnp.zeros((), x.dtype), padding_config)

        def window(offset):
            end = [p + (n - 1) * stride + 1 for p, n, stride in zip(offset, outputs, strides, strict=True)]
            return lax.slice(x, (0, *offset, 0), (len(x), *end, x.shape[-1]), (1, *strides, 1))

        windows = jnp.concatenate([window(offset) for offset in offsets], -1)
        kernel = kernel.reshape(-1, kernel.shape[-1])
        product = lambda rows: jnp.matmul(rows, kernel.astype(x.dtype), preferred_element_type=kernel.dtype)
        return flatten_leading_axes(product, windows)

    def chunked(x, kernel):
        example_bytes = math.prod(outputs) * len(offsets) * x.shape[-1] * x.dtype.itemsize
        # The gradient adds an array of the kernel's size per chunk. Small chunks would make that the main cost.
        max_bytes = max(PIECE, 2 * math.prod(kernel.shape) * kernel.dtype.itemsize)
        size = next(n for n in range(len(x), 0, -1) if len(x) % n == 0 and (n * example_bytes <= max_bytes or n == 1))
        if size == len(x):
            return product(x, kernel)
        _, y = lax.scan(lambda _, x: (None, product(x, kernel)), None, x.reshape(-1, size, *x.shape[1:]))
        return y.reshape(-1, *y.shape[2:])

    kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))  # the dtype of the sum over chunks
    shards = num_shards(*BATCH_AXES)
    if shards == 1 or len(x) % shards:
        return chunked(x, kernel)
    # Each device sums over its own examples; one reduction then adds the devices' sums.
    split = x.reshape(shards, -1, *x.shape[1:])
    y = jax.vmap(chunked)(split, jnp.broadcast_to(kernel, (shards, *kernel.shape)))
    return y.reshape(-1, *y.shape[2:])
