"""An embedding table, for tokens and for positions."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from research.axes import Array, Float, Integer
from research.distributed.sharding import constrain, num_shards


def gathered(arrays: tuple[Float[Array, "..."], ...], **_) -> tuple[Float[Array, "..."], ...]:
    """Promote the arrays of an nnx.Embed to a common dtype, and gather the table (the last array) if a mesh splits it.

    Without the gather, the partitioner would split the result like the table, and could not then split it by rows. As
    an output layer, which has an input too, the table stays split by "tensor", and so do the logits, by far the largest
    activations of a model with a large vocabulary.

    The dtype is that of the arrays. nnx.Embed would use the dtype that its table was created with, and would undo
    `research.wrappers.mixed_precision.mixed` for all later layers.
    """
    *inputs, table = promote_dtype(arrays)
    divisible = table.shape[0] % num_shards("tensor") == 0
    return *inputs, constrain(table, "tensor" if inputs and divisible else None, None)


Embed = functools.partial(nnx.Embed, promote_dtype=gathered)


def embed_tokens(embed: nnx.Embed, tokens: Integer[Array, "*batch"]) -> Float[Array, "*batch features"]:
    """Look up the vectors of tokens; a token below 0, or not below the size of the table, gives NaN.

    JAX would read the token -1 as the last one. As for a label out of range, the loss is then NaN and the run stops.
    """
    tokens = tokens.astype(jnp.int32)
    return embed(jnp.where(tokens < 0, embed.num_embeddings, tokens))
