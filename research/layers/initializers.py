"""Initialisers for kernels of many axes."""

import math

import jax
import jax.numpy as jnp


def he_normal():
    """An initialiser of kernels [..., in, out]: normal, truncated at two deviations, of variance 2 / fan-in, where
    the fan-in is the product of all axes but the last (He et al. 2015, equation 10).

    The numbers are those of `jax.nn.initializers.he_normal`, drawn as a matrix: for random arrays of four axes XLA
    takes five to ten times longer to compile on CPU, which a network of convolutions pays for each of its kernels.
    """
    draw = jax.nn.initializers.he_normal()

    def init(key, shape, dtype=jnp.float32, **options):
        return draw(key, (math.prod(shape[:-1]), shape[-1]), dtype, **options).reshape(shape)

    return init
