"""Prefix tuning: train keys and values before each row in every layer, while the model's own params are frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from research.axes import Array, Float
from research.core import Model, Tree, draw
from research.errors import UserError
from research.layers.cache import Cache, NewCache
from research.tree import path_name
from research.wrappers.frozen import named_arrays, thawed, with_arrays
from research.wrappers.tuned import frozen_beside

PREFIX = "prefix"


def prefixed(model: Model, length: int, *, train: str | None = None) -> Model:
    """Put trained keys and values of `length` virtual tokens before each row, in every attention layer.

    Prefix tuning (Li & Liang 2021, arXiv:2101.00190, section 4.2). The params `prefix` are a key-value cache without
    its batch axis, thus the model must accept a cache (GPT, LLaMA); the positions of a row begin after the prefix. They
    begin as random numbers with a standard deviation of 0.02; `prefix_from` starts with those of real tokens. They are
    trained directly, without the paper's reparametrisation by a perceptron (as in Liu et al. 2022, arXiv:2110.07602).

    As with any cache, the model runs in evaluation mode, without dropout, and each row holds one document, padded on
    its right. A cache for decoding contains the prefix.

    The other params whose path matches `train`, such as a new head, are trained as they are; all remaining ones are
    frozen, as in `lora`, and `mixed_precision` is applied inside. Raises UserError if `length` is below 1 or above the
    window of the model, if the model accepts no such cache, if `train` matches no parameter, and if the model is
    already frozen.
    """
    if length < 1:
        raise UserError(f"prefixed(length={length}); expected at least 1 virtual token.")

    def add(key, arrays):
        like = _cache_like(model, *jax.eval_shape(model.init, key), NewCache(length))
        if (places := jax.tree.leaves(like)[0].shape[-2]) < length:
            raise UserError(f"prefixed(length={length}): expected at most {places}, the window of the model.")
        named = {path_name(path): x for path, x in jax.tree.leaves_with_path({PREFIX: _as_dicts(like)})}
        normal = lambda name, x: 0.02 * jax.random.normal(draw(key, name), x.shape[1:], x.dtype)
        return {name: normal(name, x) for name, x in named.items()}

    def apply(params: Tree, stats: Tree, tokens, segments=None, positions=None, cache=None, **options):
        full, model_stats = thawed(params, stats)
        prefix = full.pop(PREFIX)
        batch, time = tokens.shape
        positions = length + (jnp.broadcast_to(jnp.arange(time), tokens.shape) if positions is None else positions)
        start = cache
        if cache is None or isinstance(cache, NewCache):
            new = NewCache(time) if cache is None else cache
            like = _cache_like(model, full, model_stats, NewCache(length + new.tokens, new.rewinds))
            # Without a cache the row is not stored, except one token alone, which is stored before it is read.
            most = length + (time == 1) if cache is None else None
            start = _as_cache(prefix, like, batch=batch, most=most)
        (outputs, after), changed = model.apply(full, model_stats, tokens, segments, positions, start, **options)
        return (outputs if cache is None else (outputs, after)), changed

    return Model(frozen_beside(model, add, owner="prefixed", train=train), apply)


def prefix_from(tokens: Sequence[int], init_from: Callable, *, model: Model) -> Callable:
    """Return an `init_from` that does the same and starts the prefix with the keys and values of real `tokens`.

    Li & Liang 2021, section 7.4. `model` is the one inside `prefixed`. Raises UserError if the number of tokens is not
    the length of the prefix, and if `init_from` does not load all params of the model.
    """

    def start(params, stats):
        params, stats = init_from(params, stats)
        targets = {name: x for name, x in named_arrays(params, stats).items() if name.startswith(f"{PREFIX}/")}
        full, model_stats = thawed(params, stats)
        full.pop(PREFIX, None)
        length = next((x.shape[-2] for x in targets.values()), 0)
        if len(tokens) != length:
            raise UserError(f"prefix_from: {len(tokens)} tokens for a prefix of {length}; expected as many.")
        missing = [name for name, x in named_arrays(full, {}).items() if isinstance(x, jax.ShapeDtypeStruct)]
        if missing:
            raise UserError(f"prefix_from: init_from= does not load {missing[0]!r}, and the prefix depends on it.")

        def run(params, stats):
            (_, cache), _ = model.apply(params, stats, jnp.asarray([tokens]), None, None, NewCache(length))
            rows = jax.tree.map(lambda x: x[0], cache)
            return {path_name(path): x for path, x in jax.tree.leaves_with_path({PREFIX: _as_dicts(rows)})}

        found = jax.jit(run, out_shardings={name: x.sharding for name, x in targets.items()})(full, model_stats)
        return with_arrays(found, params, stats)

    return start


def _cache_like(model: Model, params: Tree, stats: Tree, new: NewCache) -> Tree:
    """Return the shapes of the cache of one row."""
    call = lambda params, stats: model.apply(params, stats, jnp.zeros((1, 1), jnp.int32), None, None, new)[0][1]
    try:
        like = jax.eval_shape(call, params, stats)
        caches = like if type(like) is tuple else (like,)
    except UserError:
        raise
    except Exception as error:  # a network without a cache fails in its own way
        raise UserError(f"prefixed: expected a model with a cache, such as GPT or LLaMA ({error}).") from error
    if not all(isinstance(one, Cache) for one in caches):
        raise UserError("prefixed: expected a model whose cache holds keys and values, such as GPT or LLaMA.")
    return like


def _as_dicts(cache: Tree) -> Tree:
    """Return a Cache, or a tuple of one per block, as nested dicts."""
    if isinstance(cache, Cache):
        return cache._asdict()
    return {str(i): _as_dicts(own) for i, own in enumerate(cache)}


def _as_cache(prefix: Tree, like: Tree, *, batch: int, most: int | None) -> Tree:
    """Return a cache of the form `like` for each row of a batch: the prefix and empty places, at most `most`."""
    if not isinstance(like, Cache):
        return tuple(_as_cache(prefix[str(i)], own, batch=batch, most=most) for i, own in enumerate(like))

    def fill(x: Float[Array, "*layers kv_heads virtual head"], shape):
        empty = min(shape[-2], most or shape[-2]) - x.shape[-2]
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, empty), (0, 0)])
        return jnp.broadcast_to(padded, (batch, *padded.shape))

    return Cache(*(fill(prefix[name], x.shape) for name, x in like._asdict().items()))
