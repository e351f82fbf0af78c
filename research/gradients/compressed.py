"""Compressed gradients: top-k, 8 bits or signs, with error feedback for the part that was not sent.

Each estimator compresses the gradient that it receives. Under `jit` on a mesh, that is the gradient of the global
batch. Inside pmap or shard_map it is the device's own: `averaged(compressed, axis=..., local=("unsent",))` compresses
before the all-reduce, as distributed training does, and each device then has its own memory. Results are decoded, in
the params' dtype. This module reproduces the effect of compression on learning, not the saving in bandwidth: XLA's
all-reduce still moves uncompressed numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Key
from research.core import GradFn, Out, Tree, draw
from research.errors import UserError
from research.gradients.accumulate import cast_like
from research.gradients.delayed import remembered
from research.technique import Technique


def top_k(grad_fn: GradFn, *, fraction: float, name: str = "unsent", replicas: int | None = None) -> Technique:
    """Send the largest entries of gradient + memory; set the others to 0 and remember them for later steps.

    Keeps `fraction` of each array, and at least one entry (Stich et al. 2018, algorithm 1; per array as in Lin
    et al. 2018). Limit: with fraction 1 it equals `grad_fn`. Effect on `stats`: the memory is that of `error_feedback`.
    Raises UserError if the fraction is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UserError(f"top_k with fraction={fraction}; expected more than 0 and at most 1.")

    def largest(key: Key[Array, ""], x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
        flat = x.ravel()
        _, indices = jax.lax.top_k(jnp.abs(flat), max(1, round(fraction * flat.size)))
        return jnp.zeros_like(flat).at[indices].set(flat[indices]).reshape(x.shape)

    return error_feedback(grad_fn, largest, name=name, replicas=replicas)


def int8(grad_fn: GradFn) -> GradFn:
    """Quantise every array to 255 levels with unbiased stochastic rounding (QSGD).

    The levels are -127..127 times the array's largest magnitude / 127 (Alistarh et al. 2017, section 3.1, with the
    maximum as the norm). The error of an entry is below one level and has mean 0. Stats are unchanged. The key is
    folded with "compress" and the index of the array. Limit: exact, and so equal to `grad_fn`, where every entry lies
    on a level.
    """

    def quantised(key: Key[Array, ""], x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
        step_size = jnp.max(jnp.abs(x), initial=0) / 127
        scaled = jnp.clip(x / (step_size + (step_size == 0)), -127, 127)
        lower = jnp.floor(scaled)
        return step_size * (lower + (jax.random.uniform(key, x.shape) < scaled - lower))

    return _compress_gradient(grad_fn, quantised)


def sign(grad_fn: GradFn) -> GradFn:
    """Replace every entry by its sign times the mean magnitude of its array: one bit per entry.

    This is signSGD (Bernstein et al. 2018), scaled as in Karimireddy et al. 2019. Stats are unchanged. The estimate is
    biased, and training may not converge; `ef_sign` corrects the bias. Limit: `grad_fn` itself, if all entries of each
    array have the same magnitude.
    """
    return _compress_gradient(grad_fn, _scaled_sign)


def ef_sign(grad_fn: GradFn, *, name: str = "unsent", replicas: int | None = None) -> Technique:
    """Apply `sign` to gradient + memory and remember the error (EF-signSGD, Karimireddy et al. 2019, algorithm 1).

    Effect on `stats`: the memory is that of `error_feedback`.
    """
    return error_feedback(grad_fn, _scaled_sign, name=name, replicas=replicas)


def error_feedback(
    grad_fn: GradFn, compress: Callable, *, name: str = "unsent", replicas: int | None = None
) -> Technique:
    """Add error feedback to a compressor C: sent = C(g + e), then e <- g + e - sent, so nothing is lost, only delayed.

    `compress(key, x) -> x` works on one f32 array; the key is folded with "compress" and the index of the array. The
    papers store the error times the learning rate, which is equivalent while the learning rate is constant.

    Effect on `stats`: the entry `name` holds e, in f32, with the shapes of params. A batch of weight 0 leaves it
    unchanged. Limit: if C returns its input this equals `grad_fn`, and e stays 0.

    Over a named axis every device has its own e. Under pmap it is replicated with the State. Under shard_map, set
    `replicas` to the size of the axis: e then has shape [replicas, ...]; shard its first dimension over the axis (under
    vmap, map over that dimension).

    Raises UserError, while tracing, if the memory is missing from stats.
    """
    replica_axis = () if replicas is None else (replicas,)

    def memory(key, params):
        return jax.tree.map(lambda p: jnp.zeros((*replica_axis, *p.shape), jnp.float32), params)

    def fed(params, ctx):
        error = remembered(ctx.stats, name)
        grads, out = grad_fn(params, ctx)
        # Inside shard_map a device's block of [replicas, ...] has shape [1, ...].
        target = jax.tree.map(lambda g, e: g.astype(jnp.float32) + e.reshape(g.shape), grads, error)
        sent = cast_like(params, _compress_leaves(compress, ctx.key, target))
        residual = jax.tree.map(lambda w, s, e: (w - s.astype(jnp.float32)).reshape(e.shape), target, sent, error)
        empty = out.metrics["loss"].weight == 0
        residual = jax.tree.map(lambda old, new: jnp.where(empty, old, new), error, residual)
        return sent, Out({**out.stats, name: residual}, out.metrics)

    return Technique(name, memory=memory, grad_fn=fed)


def _scaled_sign(key: Key[Array, ""], x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
    return jnp.mean(jnp.abs(x)) * jnp.sign(x)


def _compress_gradient(grad_fn: GradFn, compress: Callable) -> GradFn:
    """Compress every array of the gradient of `grad_fn`, without a memory."""

    def compressed(params, ctx):
        grads, out = grad_fn(params, ctx)
        f32 = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        return cast_like(params, _compress_leaves(compress, ctx.key, f32)), out

    return compressed


def _compress_leaves(compress: Callable, key: Key[Array, ""], grads: Tree) -> Tree:
    leaves, treedef = jax.tree.flatten(grads)
    return treedef.unflatten([compress(draw(key, "compress", i), x) for i, x in enumerate(leaves)])
