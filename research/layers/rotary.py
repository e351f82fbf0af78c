"""Rotary position embeddings, and the scalings of their frequencies that extend the context of a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Integer
from research.errors import UserError

Frequencies = Float[np.ndarray, " pairs"]  # radians per position, the largest first
Scaling = Callable[[Frequencies], tuple[Frequencies, float]]  # also returns a factor of the rotated vectors


def rotate(
    x: Float[Array, "batch time heads head"],
    positions: Integer[Array, " time"] | Integer[Array, "#batch time"],
    *,
    base: float = 10_000.0,
    scaling: Scaling | None = None,
) -> Float[Array, "batch time heads head"]:
    """Rotate the pairs (x[i], x[i + head / 2]) by position * base^(-2 i / head), for queries and for keys, in f32.

    Su et al. 2021, arXiv:2104.09864, section 3.4. The product of a rotated query and key depends only on the difference
    of their positions. This is the layout of Hugging Face's files. The paper, GPT-J and Meta's own LLaMA files rotate
    neighbours (x[2i], x[2i + 1]) instead. `scaling` is `linear(...)`, `llama3(...)` or `yarn(...)`.

    Raises UserError if the head's width is odd.
    """
    if x.shape[-1] % 2:
        raise UserError(f"rotary positions need heads of even width; this width is {x.shape[-1]}.")
    frequencies = base ** (-2 * np.arange(x.shape[-1] // 2) / x.shape[-1])
    frequencies, factor = scaling(frequencies) if scaling else (frequencies, 1.0)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies.astype(np.float32)
    cos, sin = factor * jnp.cos(angles), factor * jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)


def linear(*, factor: float) -> Scaling:
    """Divide all frequencies by `factor` (Chen et al. 2023, arXiv:2306.15595, position interpolation)."""
    return lambda frequencies: (frequencies / factor, 1.0)


def llama3(*, factor: float = 8.0, low: float = 1.0, high: float = 4.0, length: int = 8192) -> Scaling:
    """Divide low frequencies by `factor` and keep high ones, as LLaMA 3.1 (Grattafiori et al. 2024).

    A frequency that turns fewer than `low` times within the original context of `length` positions is divided; one that
    turns more than `high` times is kept. Between them the weight of the two is linear in the number of turns.
    """

    def scale(frequencies):
        turns = frequencies * length / (2 * math.pi)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return kept * frequencies + (1 - kept) * frequencies / factor, 1.0

    return scale


def yarn(
    *, factor: float, length: int, fast: float = 32.0, slow: float = 1.0, attention_factor: float | None = None
) -> Scaling:
    """Divide low frequencies by `factor` and scale the scores, as YaRN (Peng et al. 2023, arXiv:2309.00071).

    A frequency that turns fewer than `slow` times within the original context of `length` positions is divided; one
    that turns more than `fast` times is kept. Between them the weight of the two is linear in the index of the pair,
    from bounds that are rounded to whole pairs. Queries and keys are multiplied by `attention_factor`, by default
    0.1 ln(factor) + 1 (equation 22).
    """
    if attention_factor is None:
        attention_factor = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0

    def scale(frequencies):
        pairs = np.arange(len(frequencies))
        pair = lambda turns: math.log(length / (2 * math.pi * turns)) / -math.log(frequencies[1])
        first, last = max(math.floor(pair(fast)), 0), min(math.ceil(pair(slow)), 2 * len(frequencies) - 1)
        divided = np.clip((pairs - first) / max(last - first, 1e-3), 0, 1)
        return (1 - divided) * frequencies + divided * frequencies / factor, attention_factor

    return scale
