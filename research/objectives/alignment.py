"""Distribution alignment: adjust predictions so that classes are predicted at their true frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float
from research.core import Tree, weighted_mean
from research.errors import UserError, check_range
from research.technique import Technique


def alignment(
    shares: Float[Array, " classes"] | Sequence[float], *, decay: float = 0.99, name: str = "alignment"
) -> Technique:
    """Align predictions p with class frequencies: p * shares / q, normalised (Berthelot et al. 2020, section 3.1).

    arXiv:1911.09785. `shares` are the class frequencies, known or counted among the labels. q is the moving average of
    the unaligned predictions: q <- decay * q + (1 - decay) * their mean. Rarely predicted classes become more likely,
    so a model that learns from its own predictions does not forget them. Limit: while q equals `shares`, as at the
    start, alignment changes nothing.

    Effect on `stats`: the entry `name` holds q, in f32, at first `shares`. A batch of weight 0 leaves it unchanged.

    A loss calls `use(stats, logits, weights=weights)`, which returns the aligned logits and the new entry of stats.

    Raises UserError for a decay outside 0..1, and for shares that are not frequencies.
    """
    check_range("alignment", decay=(decay, 0, 1))
    shares = np.asarray(shares, np.float32)
    if shares.ndim != 1 or not ((shares >= 0) & (shares < np.inf)).all() or not shares.sum() > 0:
        raise UserError(f"alignment(shares={shares.tolist()}); expected a frequency of at least 0 for each class.")
    shares = jnp.asarray(shares / shares.sum())

    def memory(key, params):
        return shares

    def align(
        stats: Tree, logits: Float[Array, "batch classes"], *, weights: Float[Array, " batch"]
    ) -> tuple[Float[Array, "batch classes"], Tree]:
        average = stats[name]
        aligned = logits.astype(jnp.float32) + jnp.log(shares) - jnp.log(jnp.maximum(average, 1e-6))
        mean_prediction = weighted_mean(jax.nn.softmax(logits.astype(jnp.float32)), weights)
        # A batch of weight 0 must not pull the average to 0.
        rate = (1 - decay) * (mean_prediction.weight > 0)
        return aligned, {name: average + rate * (mean_prediction.value() - average)}

    return Technique(name, memory=memory, use=align)
