"""The keys and values of earlier tokens, thus a new token costs one step instead of a pass over the whole row."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Bool, Float, Int, Integer


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NewCache:
    """A request for a cache for rows of up to `tokens` tokens; the last `rewinds` tokens of a row can be forgotten."""

    tokens: int
    rewinds: int = 0


class Cache(NamedTuple):
    """The keys and values of one attention layer, a ring buffer: position p is at the place p modulo `places`."""

    k: Float[Array, "batch kv_heads places head"]
    v: Float[Array, "batch kv_heads places head"]


class CachePlan(NamedTuple):
    """What all attention layers do with their caches in one call.

    `sources` is the index of the new token that is stored at each place, or -1 if the place keeps its content.
    `mask` is the attention mask over the keys that `remember` returns, and `keys` has their positions.
    """

    sources: Int[Array, "batch places"]
    mask: Bool[Array, "batch 1 time keys"]
    keys: Int[Array, "batch keys"]


def plan_cache(
    positions: Integer[Array, "batch time"],
    *,
    counts: Integer[Array, " batch"],
    places: int,
    window: int | None,
    new: bool,
) -> CachePlan:
    """Plan the use of caches for consecutive new tokens of each row at `positions`.

    `counts` is the number of tokens of each row; the others, on the right, are padding and are not stored. `window` is
    that of `causal_mask`. `new` states that there are no earlier tokens. The cache needs at least `window` places; if
    tokens are forgotten, then as many more.
    """
    first, queries = positions[:, :1], positions[:, :, None]
    stored = _positions_of_places(first[:, 0] + counts - 1, places)
    sources = jnp.where(stored >= first, stored - first, -1)
    keys = positions
    if not new and positions.shape[1] == 1:
        keys = stored
    elif not new:
        keys = jnp.concatenate([_positions_of_places(first[:, 0] - 1, places), positions], 1)
    key = keys[:, None, :]
    mask = (key >= 0) & (key <= queries)
    if window is not None:
        mask = mask & (key > queries - window)
    return CachePlan(sources, mask[:, None], keys)


def _positions_of_places(last: Integer[Array, " batch"], places: int) -> Integer[Array, "batch {places}"]:
    """Return the newest position of each place if `last` is the newest of the row; negative if the place is empty."""
    return last[:, None] - (last[:, None] - jnp.arange(places)) % places


def remember(
    cache: Cache | None,
    k: Float[Array, "batch time kv_heads head"],
    v: Float[Array, "batch time kv_heads head"],
    *,
    sources: Int[Array, "batch places"],
) -> tuple[Float[Array, "batch keys kv_heads head"], Float[Array, "batch keys kv_heads head"], Cache]:
    """Return the keys and values to attend to, for the mask of the plan, and the cache with the new ones.

    A new token alone is stored first, and attends to the cache. Several attend to the old content and to one another,
    because storing them may overwrite keys that the first of them needs. `cache` is None if there are no old ones.
    """
    # Heads come first, as in `attention`: its exchange of the axes and the one here then cancel.
    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    if cache is None:
        after = Cache(*(_stored(jnp.zeros_like(x, shape=(1, 1, 1, 1)), x, sources) for x in (k, v)))
        keys = Cache(k, v)
    elif k.shape[2] == 1:
        rows, place = jnp.arange(len(k)), sources.argmax(1)
        keys = after = Cache(*(old.at[rows, :, place].set(x[:, :, 0]) for old, x in zip(cache, (k, v), strict=True)))
    else:
        keys = Cache(*(jnp.concatenate(pair, 2) for pair in zip(cache, (k, v), strict=True)))
        after = Cache(*(_stored(old, x, sources) for old, x in zip(cache, (k, v), strict=True)))
    return keys.k.swapaxes(1, 2), keys.v.swapaxes(1, 2), after


def _stored(old, x, sources):
    sources = sources[:, None, :, None]
    return jnp.where(sources >= 0, jnp.take_along_axis(x, jnp.maximum(sources, 0), 2), old)
