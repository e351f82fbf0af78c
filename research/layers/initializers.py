"""Initialisers for kernels of many axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Key


def he_normal() -> Callable:
    """An initialiser of kernels: normal, truncated at two deviations, of variance 2 / fan-in. The fan-in is the product
    of all axes but the last (He et al. 2015, equation 10).

    The numbers are those of `jax.nn.initializers.he_normal`, drawn as a matrix: for random arrays of four axes XLA
    takes five to ten times longer to compile on CPU, which a network of convolutions pays for each of its kernels.
    """
    draw = jax.nn.initializers.he_normal()

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype=jnp.float32, **options) -> Float[Array, "... outputs"]:
        return draw(key, (math.prod(shape[:-1]), shape[-1]), dtype, **options).reshape(shape)

    return init
