"""Differentially private gradients (DP-SGD): clip the gradient of each example, then add noise to the sum."""

from __future__ import annotations

import contextlib
import math

import jax
import jax.numpy as jnp
import optax

from research.axes import Array, Key
from research.core import Ctx, GradFn, Loss, Mean, Out, Tree, check_additive, draw, merge, repeat
from research.distributed.pmap import AXIS
from research.errors import UserError
from research.fields import example_weights
from research.tree import path_name


def private(loss: Loss, *, clip: float, noise: float, expected: float, microbatch: int | None = None) -> GradFn:
    """Compute the gradient of DP-SGD (Abadi et al. 2016, arXiv:1607.00133, Algorithm 1).

        (sum_i g_i min(1, clip / |g_i|) + noise * clip * N(0, I)) / expected

    The sum runs over the real rows of the batch (mask not 0). g_i is the gradient of the loss of example i alone, in a
    batch of one; |.| is the L2 norm over all params together. The sum and the noise are in f32. `noise` is in units of
    `clip`. `expected` is the expected batch size under Poisson sampling (`data.sampling.poisson`), not the actual size,
    which is private too. Every row is one example, whatever weight its loss has: the loss of a text is the mean over
    its tokens.

    Limit: with clip=inf, noise=0 and `expected` real rows it equals `core.gradient`, for a deterministic loss that
    gives all real rows the same weight. `microbatch` bounds memory: that many rows, and therefore gradients, are
    processed at a time. It changes neither the noise, which is drawn once, nor the key of an example,
    `draw(key, "example", row)`.

    An example whose loss or gradient is not finite adds 0 to the sum and to the metrics of the loss; otherwise a single
    record could defeat the clipping. Metrics are those of the loss, summed over examples, and three means:
    `clipped_examples` (fraction with a norm above clip), `example_norm` (the norm before clipping) and
    `nonfinite_examples` (fraction left out; 1 if training has diverged).

    **The metrics are not private**, and neither is an optimizer that reads the loss as `value`. Anyone who knows the
    run's seed can reproduce the noise, so the guarantee requires a secret seed.

    On a mesh the batch may be split over devices. Under pmap the function refuses to run: every device would add noise
    of its own and would treat its rows as the complete batch.

    Effect on `stats`: none. Raises UserError for invalid clip, noise, expected or microbatch, and for noise without
    clipping. While tracing, raises UserError for a loss that changes a stats entry, such as the averages of BatchNorm
    (they mix examples, and no noise protects them); for a NotAdditive loss; for a microbatch that does not divide the
    batch; and under `--strategy pmap`.
    """
    if not clip > 0:
        raise UserError(f"private with clip={clip}; expected a positive norm, or math.inf for none.")
    if not 0 <= noise < math.inf:
        raise UserError(f"private with noise={noise}; expected a number of at least 0, in units of clip.")
    if noise and math.isinf(clip):
        raise UserError(
            f"private with noise={noise} and clip=inf: noise cannot protect an unbounded gradient. Set a finite clip."
        )
    if not 0 < expected < math.inf:
        raise UserError(f"private with expected={expected}; expected the mean batch size, a positive number.")
    if microbatch is not None and microbatch < 1:
        raise UserError(f"private with microbatch={microbatch}; expected at least 1 row.")

    def grad_fn(params, ctx):
        with contextlib.suppress(NameError):  # raised if no such axis exists, outside pmap
            jax.lax.axis_size(AXIS)
            raise UserError("private cannot run under pmap, because each device would add its own noise; use jit.")
        jax.eval_shape(lambda params, ctx: _check_loss(loss, params, ctx), params, ctx)
        size = len(jax.tree.leaves(ctx.batch)[0])
        rows = microbatch or size
        if size % rows:
            raise UserError(f"private: a batch of {size} rows is not a multiple of the microbatch of {rows}.")

        def example(row, key, real):
            single_ctx = ctx._replace(batch=jax.tree.map(lambda x: x[None], row), key=key)
            (value, out), grads = jax.value_and_grad(loss, has_aux=True)(params, single_ctx)
            grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
            norm = optax.tree.norm(grads)
            finite = jnp.isfinite(norm) & jnp.isfinite(value)
            # Use a select, not a product: 0 times inf or NaN is NaN.
            keep = lambda x: jnp.where(real & finite, x, jnp.zeros_like(x))
            scale = jnp.minimum(1.0, clip / norm)
            grads = jax.tree.map(lambda g: keep(g * scale), grads)
            is_used, is_real = keep(jnp.float32(1)), real.astype(jnp.float32)
            own_metrics = {
                "clipped_examples": Mean(keep((norm > clip).astype(jnp.float32)), is_used),
                "example_norm": Mean(keep(norm), is_used),
                "nonfinite_examples": Mean(is_real - is_used, is_real),
            }
            return grads, {**jax.tree.map(keep, dict(out.metrics)), **own_metrics}

        def add(total, examples):
            grads, metrics = jax.tree.map(lambda x: x.sum(0), jax.vmap(example)(*examples))
            return merge(total, grads), metrics

        def split_rows(x):
            # Microbatch j is rows j, j + n, j + 2n, ..., so every device of a mesh has rows of every microbatch.
            return x.reshape(rows, size // rows, *x.shape[1:]).swapaxes(0, 1)

        keys = draw(ctx.key, "example", jnp.arange(size))
        real = example_weights(ctx.batch, size) != 0
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        total, metrics = repeat(add, zeros, jax.tree.map(split_rows, (ctx.batch, keys, real)))
        if noise:
            total = _add_noise(total, scale=noise * clip, key=ctx.key)
        grads = jax.tree.map(lambda g, p: (g / expected).astype(p.dtype), total, params)
        return grads, Out({}, jax.tree.map(lambda x: x.sum(0), metrics))

    return grad_fn


def _add_noise(total: Tree, *, scale: float, key: Key[Array, ""]) -> Tree:
    """Add Gaussian noise of standard deviation `scale` to a tree, with a separate key for each leaf."""
    leaves, treedef = jax.tree.flatten(total)
    noises = [scale * jax.random.normal(draw(key, "noise", i), x.shape) for i, x in enumerate(leaves)]
    return treedef.unflatten([x + z for x, z in zip(leaves, noises, strict=True)])


def _check_loss(loss: Loss, params: Tree, ctx: Ctx) -> None:
    """Raise UserError, while tracing, for a loss that cannot be trained privately.

    Traces the complete batch, because a BatchNorm with a group size would reject a batch of one.
    """
    _, out = loss(params, ctx)
    check_additive(out.metrics, by="private")
    before = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(ctx.stats)}
    for path, leaf in jax.tree.leaves_with_path(out.stats):
        if leaf is not before.get(path_name(path)):
            raise UserError(
                f"private: the loss changes stats/{path_name(path)}. Information about examples stored there (such as "
                "BatchNorm's averages) is neither clipped nor protected by noise. Use a model that changes no stats: "
                "replace BatchNorm by LayerNorm or GroupNorm."
            )
