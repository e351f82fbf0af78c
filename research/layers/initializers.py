"""Initialisers for kernels with many axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Key


def he_normal() -> Callable:
    """Return a kernel initialiser: normal, truncated at two standard deviations, of variance 2 / fan-in.

    He et al. 2015, equation 10. The fan-in is the product of all axes but the last. The values equal those of
    `jax.nn.initializers.he_normal`. They are drawn as a matrix, because XLA takes five to ten times as long to compile
    random arrays with four axes on CPU, and a convolutional network pays that for each kernel.
    """
    draw = jax.nn.initializers.he_normal()

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype=jnp.float32, **options) -> Float[Array, "... outputs"]:
        return draw(key, (math.prod(shape[:-1]), shape[-1]), dtype, **options).reshape(shape)

    return init
