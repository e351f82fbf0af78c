"""A table of vectors, one for each number: of tokens and of places."""

from __future__ import annotations

import functools

from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from research.axes import Array, Float
from research.distributed.sharding import constrain


def gathered(arrays: tuple[Float[Array, "..."], ...], **_) -> tuple[Float[Array, "..."], ...]:
    """The arrays of an nnx.Embed, with its table (the last) gathered first if a mesh splits it: otherwise the
    partitioner would split the result as the table is, and then find no way to split it by rows again.

    The type is that of the arrays. nnx.Embed would insist on the one that its table was made with, and undo
    `research.wrappers.mixed_precision.mixed` for all that follows.
    """
    *inputs, table = promote_dtype(arrays)
    return *inputs, constrain(table, None, None)


Embed = functools.partial(nnx.Embed, promote_dtype=gathered)
