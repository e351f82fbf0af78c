"""Rotary position embeddings, and the scalings of their frequencies that extend the context of a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

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
    neighbours (x[2i], x[2i + 1]) instead. `scaling` is a `Linear`, `Llama3` or `Yarn`.

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


class Linear(NamedTuple):
    """Divide all frequencies by `factor` (Chen et al. 2023, arXiv:2306.15595, position interpolation)."""

    factor: float

    def __call__(self, frequencies: Frequencies) -> tuple[Frequencies, float]:
        return frequencies / self.factor, 1.0


class Llama3(NamedTuple):
    """Divide low frequencies by `factor` and keep high ones, as LLaMA 3.1 (Grattafiori et al. 2024).

    A frequency that turns fewer than `low` times within the original context of `length` positions is divided; one that
    turns more than `high` times is kept. Between them the weight of the two is linear in the number of turns.
    """

    factor: float
    length: int = 8192
    low: float = 1.0
    high: float = 4.0

    def __call__(self, frequencies: Frequencies) -> tuple[Frequencies, float]:
        turns = frequencies * self.length / (2 * math.pi)
        kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return kept * frequencies + (1 - kept) * frequencies / self.factor, 1.0


class Yarn(NamedTuple):
    """Divide low frequencies by `factor` and scale the scores, as YaRN (Peng et al. 2023, arXiv:2309.00071).

    A frequency that turns fewer than `slow` times within the original context of `length` positions is divided; one
    that turns more than `fast` times is kept. Between them the weight of the two is linear in the index of the pair,
    from bounds that are rounded to whole pairs. Queries and keys are multiplied by `attention_factor`, by default
    0.1 ln(factor) + 1 (equation 22).
    """

    factor: float
    length: int
    fast: float = 32.0
    slow: float = 1.0
    attention_factor: float | None = None

    def __call__(self, frequencies: Frequencies) -> tuple[Frequencies, float]:
        pair = lambda turns: math.log(self.length / (2 * math.pi * turns)) / -math.log(frequencies[1])
        first = max(math.floor(pair(self.fast)), 0)
        last = min(math.ceil(pair(self.slow)), 2 * len(frequencies) - 1)
        divided = np.clip((np.arange(len(frequencies)) - first) / max(last - first, 1e-3), 0, 1)
        scale = self.attention_factor
        if scale is None:
            scale = 0.1 * math.log(self.factor) + 1 if self.factor > 1 else 1.0
        return (1 - divided) * frequencies + divided * frequencies / self.factor, scale
