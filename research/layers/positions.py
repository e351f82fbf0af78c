"""Fixed position embeddings: sines and cosines of a sequence and of a square grid."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Float, Integer
from research.errors import UserError


def sinusoidal(
    positions: Integer[Array, "*batch"], width: int, *, temperature: float = 10_000.0
) -> Float[Array, "*batch {width}"]:
    """Return sin(p / temperature^(2i / width)) as feature 2i and the cosine as feature 2i + 1.

    Vaswani et al. 2017, section 3.5. Raises UserError if the width is odd.
    """
    if width % 2:
        raise UserError(f"sinusoidal positions of width {width}; expected an even width.")
    angles = positions[..., None] * temperature ** (-2 * jnp.arange(width // 2) / width)
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(*positions.shape, width)


def sincos2d(grid: int, width: int, *, temperature: float = 10_000.0) -> Float[Array, "{grid}*{grid} {width}"]:
    """Return fixed position embeddings of a square grid: a quarter each of sin x, cos x, sin y and cos y.

    As in MoCo v3 and Beyer et al. 2022. Raises UserError if the width is not a multiple of 4, or is 4.
    """
    if width % 4 or width < 8:
        raise UserError(f"sincos2d positions of width {width}; expected 8, 12, 16, ...")
    y, x = jnp.mgrid[:grid, :grid].reshape(2, -1, 1)
    frequency = temperature ** -(jnp.arange(width // 4) / (width // 4 - 1))
    return jnp.concatenate([f(p * frequency) for p in (x, y) for f in (jnp.sin, jnp.cos)], -1)
