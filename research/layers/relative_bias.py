"""A learned bias of attention scores by the distance of key and query, as in T5."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx

from research.axes import Array, Float, Int, Integer
from research.layers.embedding import Embed


def relative_buckets(
    distances: Integer[Array, "*batch"], *, number: int = 32, max_distance: int = 128, bidirectional: bool = True
) -> Int[Array, "*batch"]:
    """Return the bucket of each distance, key position minus query position.

    Raffel et al. 2020, arXiv:1910.10683, section 2.1. Half of the buckets hold one distance each, the others
    logarithmically growing ranges; the last one holds all distances from `max_distance` on. With `bidirectional`, half
    of the `number` buckets are for keys after the query; otherwise these keys count as distance 0.
    """
    later = 0
    if bidirectional:
        number //= 2
        later = number * (distances > 0)
        distances = jnp.abs(distances)
    else:
        distances = jnp.maximum(-distances, 0)
    exact = number // 2
    # A table of whole numbers: the rounding of a logarithm on a device does not matter.
    known = np.arange(max_distance + 1)
    growth = np.log(np.maximum(known, exact) / exact) / math.log(max_distance / exact) * (number - exact)
    table = np.where(known < exact, known, np.minimum(exact + np.floor(growth + 1e-6), number - 1)).astype(np.int32)
    return later + jnp.asarray(table)[jnp.minimum(distances, max_distance)]


class RelativeBias(nnx.Module):
    """One learned number per bucket of distances and head, which is added to the scores of attention."""

    def __init__(self, heads, *, number=32, max_distance=128, bidirectional=True, embedding_init, rngs: nnx.Rngs):
        self.embed = Embed(number, heads, embedding_init=embedding_init, rngs=rngs)
        self.number, self.max_distance, self.bidirectional = number, max_distance, bidirectional

    def __call__(
        self, queries: Integer[Array, "#batch time"], keys: Integer[Array, "#batch keys"]
    ) -> Float[Array, "#batch heads time keys"]:
        """Return the bias for queries and keys at these positions."""
        distances = keys[:, None] - queries[:, :, None]
        buckets = relative_buckets(
            distances, number=self.number, max_distance=self.max_distance, bidirectional=self.bidirectional
        )
        return self.embed(buckets).transpose(0, 3, 1, 2)
