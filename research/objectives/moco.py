"""MoCo: a query finds the other view of its image among a queue of earlier keys (He et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.augment.view import two_views
from research.axes import Array, Float, Int
from research.core import Model, Out, Tree, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights
from research.technique import Technique


def moco(
    model: Model | Callable, *, view: Callable, width: int, size: int = 4096, momentum: float = 0.999,
    temperature: float = 0.07, inputs: str = "image", name: str = "moco",
) -> Technique:  # fmt: skip
    """Momentum contrast (He et al. 2020, equation 1 and Algorithm 1); `model` is a Model or its `apply`, giving
    embeddings [batch, width].

    Query and key are two views of an image, each by `view(key, batch) -> batch`. The key encoder's weights follow
    after every update: k <- momentum * k + (1 - momentum) * params (equation 2). The loss is the cross-entropy (nats)
    of finding the key among itself and the `size` keys of the queue, by cosine similarity over `temperature`;
    accuracy says how often it is found. No gradient flows into the keys. With momentum 0 the key encoder is the
    query encoder.

    Keeps the entry `name` of stats: the key encoder's "params" in f32, moved by `after`; the "queue" f32
    [size, width], at first random directions, in which the loss puts the keys of the batch in the place of the oldest
    once it has used it; and "next", the place to write to. Examples of mask 0 count in nothing and are not queued.
    The other entries, passed on, are those that the query encoder changed: what the key encoder would change
    (running batch statistics, which it does not use in training) is dropped.

    Negatives come from the queue alone, so the loss adds over examples, as far as the model's outputs do. Who splits
    a batch must carry stats from part to part (as `accumulate` does), or only one part is queued; a part then finds
    the keys of earlier parts in the queue. The key is folded with "view" and "model".

    `view` shows an Eval the key encoder in place of the query encoder.

    Raises UserError, while tracing, for embeddings of another width and for batches larger than the queue.
    """
    apply = getattr(model, "apply", model)

    def memory(key, params):
        queue = losses.unit(jax.random.normal(draw(key, name), (size, width)))
        return {"params": _wide(params), "queue": queue, "next": jnp.int32(0)}

    def loss(params, ctx):
        mine = ctx.stats[name]
        first, second = two_views(ctx.key, ctx.batch, view=view, inputs=inputs)
        queries, stats = apply(params, ctx.stats, first, key=draw(ctx.key, "model", 0), train=True)
        keys, _ = apply(_like(mine["params"], params), ctx.stats, second, key=draw(ctx.key, "model", 1), train=True)
        _check(keys, width, size)
        queries, keys = losses.unit(queries), losses.unit(keys)
        alike = jnp.sum(queries * keys, -1, keepdims=True)
        logits = jnp.concatenate([alike, queries @ mine["queue"].T], -1) / temperature
        weights = example_weights(ctx.batch, len(keys))
        labels = jnp.zeros(len(keys), jnp.int32)
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(logits, labels), weights),
            "accuracy": weighted_mean(losses.hits(logits, labels), weights),
        }
        changed = {name: enqueue(mine["queue"], mine["next"], keys=keys, weights=weights)}
        return metrics["loss"].value(), Out({**stats, **changed}, metrics)

    def after(state, params):
        old = state.stats[name]["params"]
        moved = jax.tree.map(lambda k, p: momentum * k + (1 - momentum) * p.astype(jnp.float32), old, params)
        return {name: {"params": moved}}

    def seen(state):
        return _like(state.stats[name]["params"], state.params), state.stats

    return Technique(name, memory=memory, after=after, loss=loss, view=seen)


def enqueue(
    queue: Float[Array, "places features"],
    next: Int[Array, ""],
    *,
    keys: Float[Array, "batch features"],
    weights: Float[Array, " batch"],
) -> dict[str, Array]:
    """The `queue` with the keys of weight above 0 written from place `next` on, around the end; and the new `next`."""
    size, real = len(queue), weights > 0
    places = (next + jnp.cumsum(real) - 1) % size
    # A place outside the queue is not written to.
    written = queue.at[jnp.where(real, places, size)].set(keys, mode="drop")
    return {"queue": written, "next": ((next + real.sum()) % size).astype(next.dtype)}


def _wide(params: Tree) -> Tree:
    return jax.tree.map(lambda x: x.astype(jnp.float32), params)


def _like(average: Tree, params: Tree) -> Tree:
    return jax.tree.map(lambda k, p: k.astype(p.dtype), average, params)


def _check(keys: Float[Array, "..."], width: int, size: int) -> None:
    if keys.ndim != 2 or keys.shape[1] != width:
        raise UserError(f"the model gives embeddings {list(keys.shape)}, moco was told a width of {width}.")
    if len(keys) > size:
        raise UserError(f"a batch of {len(keys)} keys does not fit moco's queue of {size}; take a longer queue.")
