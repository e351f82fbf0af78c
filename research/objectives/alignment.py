"""Distribution alignment: over many examples, guesses are to name each class as often as it occurs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.core import weighted_mean


class Alignment(NamedTuple):
    """What a loss takes, besides `memories=(a.memory,)` for the experiment.

    `aligned(stats, logits)` are the guesses put right, `changed(stats, logits, weights)` the new entry of stats.
    """

    memory: Callable[..., dict[str, Any]]
    aligned: Callable[..., jax.Array]
    changed: Callable[..., dict[str, Any]]


def alignment(shares, *, decay: float = 0.99, name: str = "alignment") -> Alignment:
    """Guesses p become p * shares / q, normalised (Berthelot et al. 2020, arXiv:1911.09785, section 3.1).

    `shares` [C] is how often each class occurs, known or counted among the labels; q is the moving average of the
    guesses as they were, q <- decay * q + (1 - decay) * their mean, and the entry `name` of stats, f32 [C]. It begins
    at `shares`, where alignment changes nothing. A class that is hardly ever guessed is guessed more, which is what
    keeps a model that learns from its own guesses from forgetting it.
    """
    shares = jnp.asarray(shares, jnp.float32) / jnp.sum(jnp.asarray(shares, jnp.float32))

    def memory(key, params):
        return {name: shares}

    def aligned(stats, logits):
        return logits.astype(jnp.float32) + jnp.log(shares) - jnp.log(jnp.maximum(stats[name], 1e-6))

    def changed(stats, logits, weights):
        seen = weighted_mean(jax.nn.softmax(logits.astype(jnp.float32)), weights)
        # A batch without an example teaches nothing.
        rate = (1 - decay) * (seen.weight > 0)
        return {name: stats[name] + rate * (seen.value() - stats[name])}

    return Alignment(memory, aligned, changed)
