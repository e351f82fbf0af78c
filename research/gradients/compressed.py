"""Gradients that would fit a thin wire: the largest entries, 8 bits, or signs, with a memory of what was left out.

Each works on the gradient that it is given. Under `jit` on a mesh that is the gradient of the global batch. Inside
pmap or shard_map it is the device's own, so `averaged(compressed, axis=..., local=("unsent",))` compresses before
the all-reduce, as distributed training does; each device then has a memory of its own. What comes back is decoded,
in the params' dtype: this computes what compression does to learning. XLA's all-reduce still moves whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Key
from research.core import GradFn, Out, Tree, draw
from research.errors import UserError
from research.gradients.accumulate import in_dtype_of
from research.gradients.delayed import remembered
from research.technique import Technique


def top_k(grad_fn: GradFn, *, fraction: float, name: str = "unsent", replicas: int | None = None) -> Technique:
    """The largest entries of gradient + memory, `fraction` of each array and at least one; the others are 0 now and
    remembered (Stich et al. 2018, algorithm 1; array by array as in Lin et al. 2018). Fraction 1 is `grad_fn`.

    The memory is as in `fed_back`. Raises UserError for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UserError(f"a fraction of {fraction}; expected more than 0 and at most 1.")

    def largest(key: Key[Array, ""], x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
        flat = x.ravel()
        _, places = jax.lax.top_k(jnp.abs(flat), max(1, round(fraction * flat.size)))
        return jnp.zeros_like(flat).at[places].set(flat[places]).reshape(x.shape)

    return fed_back(grad_fn, largest, name=name, replicas=replicas)


def int8(grad_fn: GradFn) -> GradFn:
    """Every array as 255 levels, -127..127 times its largest magnitude / 127, rounded up or down at random so that the
    mean is exact (QSGD, Alistarh et al. 2017, section 3.1, with the maximum for the norm). Stats are left alone.

    The error of an entry is below one level. The key is folded with "compress" and the number of the array.
    """

    def quantised(key: Key[Array, ""], x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
        level = jnp.max(jnp.abs(x), initial=0) / 127
        steps = jnp.clip(x / (level + (level == 0)), -127, 127)
        low = jnp.floor(steps)
        return level * (low + (jax.random.uniform(key, x.shape) < steps - low))

    return _every(grad_fn, quantised)


def sign(grad_fn: GradFn) -> GradFn:
    """The sign of every entry times the mean magnitude of its array: one bit an entry (signSGD, Bernstein et al. 2018,
    scaled as in Karimireddy et al. 2019). Stats are left alone. It is biased and need not converge: see `ef_sign`.
    """
    return _every(grad_fn, _scaled_sign)


def ef_sign(grad_fn: GradFn, *, name: str = "unsent", replicas: int | None = None) -> Technique:
    """`sign` of gradient + memory, with the error remembered (EF-signSGD, Karimireddy et al. 2019, algorithm 1). The
    memory is as in `fed_back`.
    """
    return fed_back(grad_fn, _scaled_sign, name=name, replicas=replicas)


def fed_back(grad_fn: GradFn, compress: Callable, *, name: str = "unsent", replicas: int | None = None) -> Technique:
    """sent = C(g + e), e <- g + e - sent: all that C leaves out is sent later, and nothing is lost (error feedback).

    `compress(key, x) -> x` works on one f32 array; the key is folded with "compress" and the number of the array. The
    papers remember the error times the learning rate; this is the same while the learning rate stays the same. The
    entry `name` of stats is e, f32, like params; a batch of weight 0 leaves it alone. If C returns its input this is
    `grad_fn`, and e stays 0.

    Over a named axis every device has its own e. Under pmap it is replicated with the State. Under shard_map make it
    with `replicas`, the size of the axis: then e is [replicas, ...], to be sharded over the axis by its first
    dimension (and vmapped over it under vmap).

    Raises UserError, while tracing, if the memory is missing.
    """
    lead = () if replicas is None else (replicas,)

    def memory(key, params):
        return jax.tree.map(lambda p: jnp.zeros((*lead, *p.shape), jnp.float32), params)

    def fed(params, ctx):
        error = remembered(ctx.stats, name)
        grads, out = grad_fn(params, ctx)
        # Inside shard_map a device's block of [replicas, ...] is [1, ...].
        wanted = jax.tree.map(lambda g, e: g.astype(jnp.float32) + e.reshape(g.shape), grads, error)
        sent = in_dtype_of(params, _leafwise(compress, ctx.key, wanted))
        left = jax.tree.map(lambda w, s, e: (w - s.astype(jnp.float32)).reshape(e.shape), wanted, sent, error)
        empty = out.metrics["loss"].weight == 0
        left = jax.tree.map(lambda old, new: jnp.where(empty, old, new), error, left)
        return sent, Out({**out.stats, name: left}, out.metrics)

    return Technique(name, memory=memory, grad_fn=fed)


def _scaled_sign(key: Key[Array, ""], x: Float[Array, "*entry"]) -> Float[Array, "*entry"]:
    return jnp.mean(jnp.abs(x)) * jnp.sign(x)


def _every(grad_fn: GradFn, compress: Callable) -> GradFn:
    """`grad_fn` with every array of its gradient compressed, and no memory."""

    def compressed(params, ctx):
        grads, out = grad_fn(params, ctx)
        f32 = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
        return in_dtype_of(params, _leafwise(compress, ctx.key, f32)), out

    return compressed


def _leafwise(compress: Callable, key: Key[Array, ""], grads: Tree) -> Tree:
    leaves, form = jax.tree.flatten(grads)
    return form.unflatten([compress(draw(key, "compress", i), x) for i, x in enumerate(leaves)])
