"""Attention of a single query vector to a sequence: additive, multiplicative, and with a query that is learned."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Bool, Float
from research.layers.linear import Linear


class Memory(NamedTuple):
    """The sequence that is attended to: the vectors that are averaged, the keys for the scores, and which are real."""

    values: Float[Array, "batch keys features"]
    keys: Float[Array, "batch keys outputs"]
    mask: Bool[Array, "batch keys"]


def softmax_over(scores: Float[Array, "batch keys"], mask: Bool[Array, "batch keys"]) -> Float[Array, "batch keys"]:
    """Return the softmax of the scores over the keys with a true mask, in f32; all weights are 0 if there is none."""
    return jax.nn.softmax(jnp.where(mask, scores.astype(jnp.float32), -1e30)) * mask


def weighted_sum(
    weights: Float[Array, "batch keys"], values: Float[Array, "batch keys features"]
) -> Float[Array, "batch features"]:
    """Return the weighted sum of the values."""
    return jnp.einsum("bk,bkf->bf", weights.astype(values.dtype), values)


class AdditiveAttention(nnx.Module):
    """The average of a memory with the weights softmax_j v tanh(query W + values_j U).

    Bahdanau et al. 2015, appendix A.1.2. `memory` computes values U once for all queries.
    """

    def __init__(self, query: int, values: int, width: int, *, rngs: nnx.Rngs):
        self.query = Linear(query, width, use_bias=False, rngs=rngs)
        self.key = Linear(values, width, use_bias=False, rngs=rngs)
        self.score = Linear(width, 1, use_bias=False, rngs=rngs)

    def memory(self, values: Float[Array, "batch keys features"], mask: Bool[Array, "batch keys"]) -> Memory:
        """Return the memory of these values."""
        return Memory(values, self.key(values), mask)

    def weights(self, query: Float[Array, "batch _"], memory: Memory) -> Float[Array, "batch keys"]:
        """Return the weight of each key."""
        scores = self.score(jnp.tanh(self.query(query)[:, None] + memory.keys))[..., 0]
        return softmax_over(scores, memory.mask)

    def __call__(self, query: Float[Array, "batch _"], memory: Memory) -> Float[Array, "batch features"]:
        return weighted_sum(self.weights(query, memory), memory.values)


class MultiplicativeAttention(nnx.Module):
    """The average of a memory with the weights softmax_j query . values_j W.

    Luong et al. 2015, section 3.1: the score "general". `memory` computes values W once for all queries.
    """

    def __init__(self, query: int, values: int, *, rngs: nnx.Rngs):
        self.key = Linear(values, query, use_bias=False, rngs=rngs)

    def memory(self, values: Float[Array, "batch keys features"], mask: Bool[Array, "batch keys"]) -> Memory:
        """Return the memory of these values."""
        return Memory(values, self.key(values), mask)

    def weights(self, query: Float[Array, "batch outputs"], memory: Memory) -> Float[Array, "batch keys"]:
        """Return the weight of each key."""
        return softmax_over(jnp.einsum("bo,bko->bk", query, memory.keys), memory.mask)

    def __call__(self, query: Float[Array, "batch outputs"], memory: Memory) -> Float[Array, "batch features"]:
        return weighted_sum(self.weights(query, memory), memory.values)


class AttentionPooling(nnx.Module):
    """The average of a sequence with the weights softmax_j v . tanh(x_j W + b); v is the learned query.

    Yang et al. 2016, equations 5 to 7.
    """

    def __init__(self, features: int, width: int, *, rngs: nnx.Rngs):
        self.hidden = Linear(features, width, rngs=rngs)
        self.score = Linear(width, 1, use_bias=False, rngs=rngs)

    def weights(self, x: Float[Array, "batch keys features"], mask: Bool[Array, "batch keys"]) -> Float[
        Array, "batch keys"
    ]:  # fmt: skip
        """Return the weight of each position."""
        return softmax_over(self.score(jnp.tanh(self.hidden(x)))[..., 0], mask)

    def __call__(self, x: Float[Array, "batch keys features"], mask: Bool[Array, "batch keys"]) -> Float[
        Array, "batch features"
    ]:  # fmt: skip
        return weighted_sum(self.weights(x, mask), x)
