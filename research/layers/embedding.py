"""A table of vectors for what is counted: tokens and places."""

import functools

from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from research.distributed.sharding import constrain


def gathered(arrays, **_):
    """What an nnx.Embed computes with, its table (the last) gathered first where a mesh splits it: otherwise the
    partitioner would split what is looked up as the table is, and then find no way to split it by rows again.

    The type is that of the arrays. nnx.Embed would insist on the one that its table was made with, and undo
    `research.wrappers.mixed_precision.mixed` for all that follows.
    """
    *inputs, table = promote_dtype(arrays)
    return *inputs, constrain(table, None, None)


Embed = functools.partial(nnx.Embed, promote_dtype=gathered)
