"""How severe mistakes are, for classes that are leaves of a tree."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from research.axes import Array, Float, Int, Integer


def severity(
    tree: Int[np.ndarray, "layers classes"], labels: Integer[Array, "*batch"], predictions: Integer[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Return the height of the lowest common ancestor of label and prediction: 0 for a hit, 1 for a sibling, ...

    `tree` is that of `losses.ancestors`. Its mean over the mistakes is the hierarchical distance of a mistake
    (Bertinetto et al. 2020, section 2).
    """
    tree = jnp.asarray(tree)
    return jnp.sum(tree[:, labels] != tree[:, predictions], 0).astype(jnp.float32)
