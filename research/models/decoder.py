"""The functions that decoder-only language models, GPT and LLaMA, share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from research.axes import Array, Bool, Float, Integer, PyTree, Shaped
from research.core import Tree
from research.distributed.sharding import Tactic, fsdp
from research.errors import UserError
from research.layers.attention import causal_mask, segment_mask
from research.layers.cache import NewCache, plan_cache


def vocabulary_tactic(dimension: int, *, min_size: int) -> Tactic:
    """Return the tactic `fsdp` of a matrix that also splits its vocabulary, `dimension`, over "tensor".

    A vocabulary that "tensor" does not divide is not split over it.
    """

    def tactic(path, shape, mesh):
        parts = mesh.shape["tensor"]
        base = (*(None,) * dimension, "tensor") if parts > 1 and shape[dimension] % parts == 0 else ()
        return fsdp(*base, min_size=min_size)(path, shape, mesh)

    return tactic


def check_length(tokens: Integer[Array, "batch time"], length: int, *, cache: Tree = None):
    """Raise UserError if the rows, or those for which a cache is made, have more tokens than the model's `length`."""
    size = max(tokens.shape[1], cache.tokens if isinstance(cache, NewCache) else 0)
    if size > length:
        raise UserError(f"rows of {size} tokens are longer than the model's length of {length}.")


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


def apply_cached(
    blocks: nnx.Module,
    x: Float[Array, "batch time features"],
    cache: Tree,
    *,
    mask: Callable | None,
    segments: Integer[Array, "batch time"] | None,
    positions: Integer[Array, " time"] | Integer[Array, "batch time"],
) -> tuple[Float[Array, "batch time features"], Tree]:
    """Apply the blocks in evaluation mode to the next tokens of each row, which attend to the earlier ones in `cache`.

    Returns the result and the cache with the new tokens. `cache` is a NewCache for the first tokens of a row, and after
    them the cache of the previous call: a tuple of one per block, or that of the stacked blocks. `segments` is 0 for
    padding, which is on the right, and does not number several documents. `mask` is that of the model.

    Raises UserError if the mask of the model is not causal.
    """
    window = causal_window(mask)
    positions = jnp.broadcast_to(positions, x.shape[:2])
    new = isinstance(cache, NewCache)
    if new:
        places = cache.tokens if window is None else min(cache.tokens, window + cache.rewinds)
        cache = None
    else:
        places = jax.tree.leaves(cache)[0].shape[-2]
    counts = jnp.full(len(x), x.shape[1]) if segments is None else (segments > 0).sum(1)
    plan = plan_cache(positions, counts=counts, places=places, window=window, new=new)
    options = dict(mask=plan.mask, sources=plan.sources, positions=positions, train=False)
    if not isinstance(blocks, nnx.List):
        return blocks(x, cache=cache, **options)
    after = []
    for block, own in zip(blocks, cache or [None] * len(blocks), strict=True):
        x, own = block(x, cache=own, **options)
        after.append(own)
    return x, tuple(after)


def causal_window(mask: Callable | None) -> int | None:
    """Return the window of a model's `mask`, `causal_mask` or a `functools.partial` of it; None if it has no window.

    Raises UserError for another mask: a row can then not be continued token by token.
    """
    if mask is causal_mask:
        return None
    if isinstance(mask, functools.partial) and mask.func is causal_mask and not mask.args:
        return mask.keywords.get("window")
    name = getattr(mask, "__name__", mask)
    raise UserError(f"a cache needs a model with a causal mask (`causal_mask`); this one has mask={name}.")
