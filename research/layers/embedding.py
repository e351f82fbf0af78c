"""An embedding table, for tokens and for positions."""

from __future__ import annotations

import functools

from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype

from research.axes import Array, Float
from research.distributed.sharding import constrain


def gathered(arrays: tuple[Float[Array, "..."], ...], **_) -> tuple[Float[Array, "..."], ...]:
    """Promote the arrays of an nnx.Embed to a common dtype, and gather the table (the last array) if a mesh splits it.

    Without the gather, the partitioner would split the result like the table, and could not then split it by rows. The
    dtype is that of the arrays. nnx.Embed would use the dtype that its table was created with, and would undo
    `research.wrappers.mixed_precision.mixed` for all later layers.
    """
    *inputs, table = promote_dtype(arrays)
    return *inputs, constrain(table, None, None)


Embed = functools.partial(nnx.Embed, promote_dtype=gathered)
