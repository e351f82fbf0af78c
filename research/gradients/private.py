"""The private gradient: each example's gradient is clipped, and noise hides what any one of them did."""

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
    """The gradient of DP-SGD (Abadi et al. 2016, arXiv:1607.00133, Algorithm 1):

        (sum_i g_i min(1, clip / |g_i|) + noise * clip * N(0, I)) / expected

    over the real rows of the batch (mask not 0), with g_i the gradient of the loss of example i alone (a batch of
    one) and |.| the L2 norm over all params together. The sum and the noise are in f32. `expected` is the batch
    size that is expected under Poisson sampling (`data.sampling.poisson`), not the one that came: that is private
    too. Every row is one example, whatever weight its loss has: the loss of a text is the mean over its tokens.

    With clip=inf, noise=0 and `expected` real rows it equals `core.gradient`, for a deterministic loss that gives
    all real rows one weight. `microbatch` rows are taken at a time, which bounds the memory: it holds that many
    gradients. It changes neither the noise, which is drawn once, nor any example's key, `draw(key, "example", row)`.

    An example whose loss or gradient is not finite adds 0 to the sum, and counts in no metric of the loss: left in,
    one record could undo the clipping. Metrics are the loss's own, summed over examples, and three means:
    `clipped_examples` (share with a norm above clip), `example_norm` (the norm before clipping) and
    `nonfinite_examples` (share left out; all of them, where training has diverged). **The metrics are not private**,
    and neither is an optimizer that reads the loss as `value`. The noise repeats for whoever knows the run's seed,
    so the guarantee needs a seed that stays secret.

    On a mesh the batch may be split over devices. Inside pmap every device would add noise of its own, and take its
    rows for the whole batch: that is refused.

    `stats` stay as they are. Raises UserError for a loss that changes an entry, such as the averages of BatchNorm
    (examples mix in them, and no noise hides what they hold); for a loss that is NotAdditive; for noise without
    clipping; for a microbatch that does not divide the batch; under `--strategy pmap`.
    """
    if not clip > 0:
        raise UserError(f"private with clip={clip}; expected a positive norm, or math.inf for none.")
    if not 0 <= noise < math.inf:
        raise UserError(f"private with noise={noise}; expected a number of at least 0, in units of clip.")
    if noise and math.isinf(clip):
        raise UserError(
            f"private with noise={noise} and clip=inf: no noise hides a gradient without a bound. Set clip."
        )
    if not 0 < expected < math.inf:
        raise UserError(f"private with expected={expected}; expected the mean number of examples in a batch.")
    if microbatch is not None and microbatch < 1:
        raise UserError(f"private with microbatch={microbatch}; expected at least 1 row.")

    def grad_fn(params, ctx):
        with contextlib.suppress(NameError):  # which is raised outside of pmap
            jax.lax.axis_size(AXIS)
            raise UserError("private cannot run under pmap, where each device would add its own noise; use jit.")
        jax.eval_shape(lambda params, ctx: _check(loss, params, ctx), params, ctx)
        size = len(jax.tree.leaves(ctx.batch)[0])
        rows = microbatch or size
        if size % rows:
            raise UserError(f"private: a batch of {size} rows is not a multiple of the microbatch of {rows}.")

        def example(row, key, real):
            alone = ctx._replace(batch=jax.tree.map(lambda x: x[None], row), key=key)
            (value, out), grads = jax.value_and_grad(loss, has_aux=True)(params, alone)
            grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
            norm = optax.tree.norm(grads)
            finite = jnp.isfinite(norm) & jnp.isfinite(value)
            # A select, not a product: 0 times what is not finite is not 0.
            keep = lambda x: jnp.where(real & finite, x, jnp.zeros_like(x))
            scale = jnp.minimum(1.0, clip / norm)
            grads = jax.tree.map(lambda g: keep(g * scale), grads)
            kept, given = keep(jnp.float32(1)), real.astype(jnp.float32)
            ours = {
                "clipped_examples": Mean(keep((norm > clip).astype(jnp.float32)), kept),
                "example_norm": Mean(keep(norm), kept),
                "nonfinite_examples": Mean(given - kept, given),
            }
            return grads, {**jax.tree.map(keep, dict(out.metrics)), **ours}

        def add(total, examples):
            grads, metrics = jax.tree.map(lambda x: x.sum(0), jax.vmap(example)(*examples))
            return merge(total, grads), metrics

        def apart(x):
            # Rows j, j + n, j + 2n, ... are microbatch j: where a mesh splits the batch, every device has a share.
            return x.reshape(rows, size // rows, *x.shape[1:]).swapaxes(0, 1)

        keys = draw(ctx.key, "example", jnp.arange(size))
        real = example_weights(ctx.batch, size) != 0
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        total, metrics = repeat(add, zeros, jax.tree.map(apart, (ctx.batch, keys, real)))
        if noise:
            total = _noised(total, scale=noise * clip, key=ctx.key)
        grads = jax.tree.map(lambda g, p: (g / expected).astype(p.dtype), total, params)
        return grads, Out({}, jax.tree.map(lambda x: x.sum(0), metrics))

    return grad_fn


def _noised(total: Tree, *, scale: float, key: Key[Array, ""]) -> Tree:
    """The tree plus Gaussian noise of standard deviation `scale`, every leaf with a key of its own."""
    leaves, form = jax.tree.flatten(total)
    drawn = [scale * jax.random.normal(draw(key, "noise", i), x.shape) for i, x in enumerate(leaves)]
    return form.unflatten([x + z for x, z in zip(leaves, drawn, strict=True)])


def _check(loss: Loss, params: Tree, ctx: Ctx) -> None:
    """Raises UserError, while tracing, for a loss that may not be trained privately.

    The whole batch is traced for it: a BatchNorm with a group size would not even accept a batch of one.
    """
    _, out = loss(params, ctx)
    check_additive(out.metrics, by="private")
    before = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(ctx.stats)}
    for path, leaf in jax.tree.leaves_with_path(out.stats):
        if leaf is not before.get(path_name(path)):
            raise UserError(
                f"private: the loss changes stats/{path_name(path)}. What it keeps there of the examples (BatchNorm "
                "keeps averages) is neither clipped nor hidden by noise. Take a model that keeps nothing: LayerNorm or "
                "GroupNorm in place of BatchNorm."
            )
