"""MoCo: identify the other view of an image among a queue of earlier keys (He et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research import losses
from research.augment.view import two_views
from research.axes import Array, Float, Int
from research.core import Model, Out, Tree, draw, weighted_mean
from research.errors import UserError, check_range
from research.fields import example_weights
from research.technique import Technique


def moco(
    model: Model | Callable, *, view: Callable, width: int, size: int = 4096, momentum: float = 0.999,
    temperature: float = 0.07, inputs: str = "image", name: str = "moco",
) -> Technique:  # fmt: skip
    """Make a Technique for momentum contrast (He et al. 2020, equation 1 and Algorithm 1).

    `model` is a Model or its `apply` and returns embeddings [batch, width]. Query and key are two views of an image,
    each by `view(key, batch) -> batch`. The loss is the cross-entropy (nats) of identifying the key among itself and
    the `size` keys of the queue, by cosine similarity over `temperature`; accuracy is how often it is identified. No
    gradient flows into the keys. The key encoder's weights follow after every update:
    k <- momentum * k + (1 - momentum) * params (equation 2). Limit: with momentum 0 the key encoder equals the query
    encoder. `view` makes an Eval use the key encoder in place of the query encoder.

    Effect on `stats`: the entry `name` holds the key encoder's "params" in f32, moved by `after`; the "queue", f32
    [size, width], initially random directions; and "next", the index to write to. After it has used the queue, the loss
    replaces its oldest keys by those of the batch. Examples of mask 0 count in nothing and are not queued. Changes by
    the query encoder are passed on. Changes by the key encoder are discarded: running batch statistics, which it does
    not use in training.

    Negatives come only from the queue, so the loss adds over examples if the model's outputs do. Code that splits a
    batch must pass stats from part to part, as `accumulate` does; otherwise only one part is queued. A later part then
    finds the keys of earlier parts in the queue. The key is folded with "view" and "model".

    Raises UserError for a momentum outside 0..1 and, while tracing, for embeddings of another width and for batches
    larger than the queue.
    """
    check_range("moco", momentum=(momentum, 0, 1))
    apply = getattr(model, "apply", model)

    def memory(key, params):
        queue = losses.l2_normalize(jax.random.normal(draw(key, name), (size, width)))
        return {"params": _to_f32(params), "queue": queue, "next": jnp.int32(0)}

    def loss(params, ctx):
        entry = ctx.stats[name]
        first, second = two_views(ctx.key, ctx.batch, view=view, inputs=inputs)
        queries, stats = apply(params, ctx.stats, first, key=draw(ctx.key, "model", 0), train=True)
        keys, _ = apply(_cast_as(entry["params"], params), ctx.stats, second, key=draw(ctx.key, "model", 1), train=True)
        _check_keys(keys, width, size)
        queries, keys = losses.l2_normalize(queries), losses.l2_normalize(keys)
        positives = jnp.sum(queries * keys, -1, keepdims=True)
        logits = jnp.concatenate([positives, queries @ entry["queue"].T], -1) / temperature
        weights = example_weights(ctx.batch, len(keys))
        labels = jnp.zeros(len(keys), jnp.int32)
        metrics = {
            "loss": weighted_mean(losses.cross_entropy(logits, labels), weights),
            "accuracy": weighted_mean(losses.hits(logits, labels), weights),
        }
        changed = {name: enqueue(entry["queue"], entry["next"], keys=keys, weights=weights)}
        return metrics["loss"].value(), Out({**stats, **changed}, metrics)

    def after(state, params):
        old = state.stats[name]["params"]
        new_params = jax.tree.map(lambda k, p: momentum * k + (1 - momentum) * p.astype(jnp.float32), old, params)
        return {name: {"params": new_params}}

    def key_view(state):
        return _cast_as(state.stats[name]["params"], state.params), state.stats

    return Technique(name, memory=memory, after=after, loss=loss, view=key_view)


def enqueue(
    queue: Float[Array, "places features"],
    next: Int[Array, ""],
    *,
    keys: Float[Array, "batch features"],
    weights: Float[Array, " batch"],
) -> dict[str, Array]:
    """Return the queue with the keys of weight above 0 written from index `next` on, and the new `next`.

    Writing wraps around at the end of the queue.
    """
    size, real = len(queue), weights > 0
    indices = (next + jnp.cumsum(real) - 1) % size
    # Padding gets an index outside the queue, which mode="drop" ignores.
    written = queue.at[jnp.where(real, indices, size)].set(keys, mode="drop")
    return {"queue": written, "next": ((next + real.sum()) % size).astype(next.dtype)}


def _to_f32(params: Tree) -> Tree:
    return jax.tree.map(lambda x: x.astype(jnp.float32), params)


def _cast_as(average: Tree, params: Tree) -> Tree:
    return jax.tree.map(lambda k, p: k.astype(p.dtype), average, params)


def _check_keys(keys: Float[Array, "..."], width: int, size: int) -> None:
    if keys.ndim != 2 or keys.shape[1] != width:
        raise UserError(f"the model returns embeddings {list(keys.shape)}, but moco has width={width}.")
    if len(keys) > size:
        raise UserError(f"a batch of {len(keys)} keys does not fit moco's queue of {size}; increase size=.")
