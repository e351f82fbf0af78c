"""The functions that decoder-only language models share: GPT and LLaMA."""

from __future__ import annotations

from collections.abc import Callable

from flax import nnx

from research.axes import Array, Bool, Integer, PyTree, Shaped
from research.errors import UserError
from research.layers.attention import segment_mask


def check_length(tokens: Integer[Array, "batch time"], length: int):
    """Raise UserError if the rows have more tokens than the model's `length`."""
    if tokens.shape[1] > length:
        raise UserError(f"rows of {tokens.shape[1]} tokens are longer than the model's length of {length}.")


def packed_mask(
    mask: Callable | None, segments: Integer[Array, "batch time"] | None, *, length: int
) -> Bool[Array, "time time"] | Bool[Array, "batch 1 time time"] | Integer[Array, "batch time"] | None:
    """Return `mask(length)`, restricted to pairs of tokens in the same segment.

    If `mask` is None, the attention function applies its own mask by position; it receives the segments.
    """
    if mask is None:
        return segments
    return mask(length) if segments is None else mask(length) & segment_mask(segments)


def apply_blocks(
    blocks: nnx.Module, x: PyTree[Shaped[Array, "batch ..."]], **options: object
) -> PyTree[Shaped[Array, "batch ..."]]:
    """Apply a list of blocks, or one stacked module such as `layers.stack.Stack`; `options` are those of the blocks."""
    for block in blocks if isinstance(blocks, nnx.List) else [blocks]:
        x = block(x, **options)
    return x
