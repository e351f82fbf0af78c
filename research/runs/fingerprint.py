"""Checksums of arrays, computed where the arrays are."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from research.distributed.sharding import on_device
from research.tree import path_name


def fingerprint(tree) -> dict[str, jax.Array]:
    """Return {path: u32[2]}: for each array, the sum of its 32-bit words and their sum weighted by position, mod 2^32.

    Integer sums do not depend on the order of addition. A sharded array therefore has the same fingerprint on any
    number of devices, without being gathered. Any single flipped bit changes the first number.
    """
    return {path_name(path): _word_sums(x) for path, x in jax.tree.leaves_with_path(tree)}


fingerprints_of = jax.jit(lambda tree: fingerprint(on_device(tree)))


def _word_sums(x):
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    if jnp.issubdtype(x.dtype, jnp.integer) and jnp.iinfo(x.dtype).bits < 8:
        x = x.astype(jnp.int8)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], -1)
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{min(32, 8 * x.dtype.itemsize)}")).astype(jnp.uint32)
    position, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):  # broadcast instead of reshaping, which would gather a sharded array
        position = position + lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    weight = position * jnp.uint32(2654435761) ^ (position >> 15) | 1
    # One reduction: on CPU, XLA would store the operand of each of two, and take 25 times as long.
    zero, add = jnp.uint32(0), lambda a, b: (a[0] + b[0], a[1] + b[1])
    return jnp.stack(lax.reduce((bits, bits * weight), (zero, zero), add, tuple(range(bits.ndim))))


def checksums(prints) -> dict[str, str]:
    """Fetch fingerprints from the devices and format them as hexadecimal text."""
    return {name: "".join(f"{int(word):08x}" for word in np.asarray(x)) for name, x in prints.items()}
