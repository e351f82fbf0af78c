"""Distribution alignment: over many examples, guesses are to name each class as often as it occurs."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from research.axes import Array, Float
from research.core import Tree, weighted_mean
from research.technique import Technique


def alignment(
    shares: Float[Array, " classes"] | Sequence[float], *, decay: float = 0.99, name: str = "alignment"
) -> Technique:
    """Guesses p become p * shares / q, normalised (Berthelot et al. 2020, arXiv:1911.09785, section 3.1).

    `shares` are how often each class occurs, known or counted among the labels; q is the moving average of the guesses
    as they were, q <- decay * q + (1 - decay) * their mean. It is the entry `name` of stats, f32. It begins at
    `shares`: there alignment changes nothing. A class that is hardly ever guessed is guessed more, and thus a model
    that learns from its own guesses does not forget it.

    `use(stats, logits, weights=weights)`, which a loss calls, gives the aligned logits and the new entry of stats.
    """
    shares = jnp.asarray(shares, jnp.float32) / jnp.sum(jnp.asarray(shares, jnp.float32))

    def memory(key, params):
        return shares

    def align(
        stats: Tree, logits: Float[Array, "batch classes"], *, weights: Float[Array, " batch"]
    ) -> tuple[Float[Array, "batch classes"], Tree]:
        average = stats[name]
        aligned = logits.astype(jnp.float32) + jnp.log(shares) - jnp.log(jnp.maximum(average, 1e-6))
        seen = weighted_mean(jax.nn.softmax(logits.astype(jnp.float32)), weights)
        # A batch without an example teaches nothing.
        rate = (1 - decay) * (seen.weight > 0)
        return aligned, {name: average + rate * (seen.value() - average)}

    return Technique(name, memory=memory, use=align)
