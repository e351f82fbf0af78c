"""An embedding table, for tokens and for positions."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from research.axes import Array, Float, Integer
from research.distributed.sharding import constrain, num_shards


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompted:
    """A table with the vectors of virtual tokens, in the place of an Embed's table; made by `wrappers.prompt`.

    The virtual tokens have the numbers that follow those of the table. As an output layer, the table is without them.
    """

    table: Float[Array, "vocabulary features"]
    prompt: Float[Array, "virtual features"]

    def __getitem__(self, index) -> Prompted:
        """Return itself. nnx.Embed reads its table as `embedding[...]`."""
        return self


def gathered(arrays: tuple[Float[Array, "..."] | Prompted, ...], **_) -> tuple[Float[Array, "..."], ...]:
    """Promote the arrays of an nnx.Embed to a common dtype, and gather the table (the last array) if a mesh splits it.

    Without the gather, the partitioner would split the result like the table, and could not then split it by rows. As
    an output layer, which has an input too, the table stays split by "tensor", and so do the logits, by far the largest
    activations of a model with a large vocabulary.

    The dtype is that of the arrays. nnx.Embed would use the dtype that its table was created with, and would undo
    `research.wrappers.mixed_precision.mixed` for all later layers.
    """
    *inputs, table = arrays
    *inputs, table = promote_dtype((*inputs, table.table if isinstance(table, Prompted) else table))
    divisible = table.shape[0] % num_shards("tensor") == 0
    return *inputs, constrain(table, "tensor" if inputs and divisible else None, None)


Embed = functools.partial(nnx.Embed, promote_dtype=gathered)


def embed_tokens(embed: nnx.Embed, tokens: Integer[Array, "*batch"]) -> Float[Array, "*batch features"]:
    """Look up the vectors of tokens; a token below 0, or not below the size of the table (and prompt), gives NaN.

    JAX would read the token -1 as the last one. As for a label out of range, the loss is then NaN and the run stops.
    """
    tokens = tokens.astype(jnp.int32)
    vectors = embed(jnp.where(tokens < 0, embed.num_embeddings, tokens))
    table = embed.embedding[...]
    if not isinstance(table, Prompted):
        return vectors
    virtual = tokens - embed.num_embeddings
    of_prompt = jnp.take(table.prompt.astype(vectors.dtype), jnp.maximum(virtual, 0), axis=0)
    return jnp.where(virtual[..., None] < 0, vectors, of_prompt)
