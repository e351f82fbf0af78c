"""Mixup and CutMix: train on blends of two examples, with their labels blended in the same proportion."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Bool, Float, Key, Num, Shaped
from research.core import Loss, draw
from research.errors import UserError, check_range
from research.fields import field


def mixup(loss: Loss, *, alpha: float, num_classes: int, inputs: str = "image", labels: str = "label") -> Loss:
    """Evaluate `loss` on share * x + (1 - share) * x', with labels mixed in the same proportion.

    From Zhang et al. 2018, equation 1. x' is the previous example of the batch. One share, drawn from
    Beta(alpha, alpha), applies to the complete batch. It is at least 1/2, so the label of x dominates, as in Beyer
    et al. 2022; because pairs are symmetric, this loses nothing. Inputs become f32. `mix_examples` states the limit,
    the effect on `stats` and further errors. Raises UserError for a negative alpha.
    """
    check_range("mixup", alpha=(alpha, 0, math.inf))

    def blend(key, x, other):
        share = _beta(draw(key, "share"), alpha)
        share = jnp.maximum(share, 1 - share)
        x, other = x.astype(jnp.float32), other.astype(jnp.float32)
        return share * x + (1 - share) * other, share

    return mix_examples(loss, blend, num_classes=num_classes, inputs=inputs, labels=labels)


def cutmix(loss: Loss, *, alpha: float, num_classes: int, inputs: str = "image", labels: str = "label") -> Loss:
    """Evaluate `loss` on images in which a box is replaced by the same box of x' (Yun et al. 2019, equations 1 and 2).

    x' is the previous example of the batch, and all images have the same box. Its centre is uniform in the image and
    its sides are sqrt(1 - s) times the image's, with s drawn from Beta(alpha, alpha). The box is clipped at the image's
    edge; the label of x gets the fraction of pixels that remain from x. Images are [batch, height, width], with or
    without channels, and retain their type. `mix_examples` states the limit, the effect on `stats` and further errors.

    Raises UserError for a negative alpha and, while tracing, if the inputs are not images.
    """
    check_range("cutmix", alpha=(alpha, 0, math.inf))

    def blend(key, x, other):
        if x.ndim not in (3, 4):
            raise UserError(f"cutmix needs images [B, H, W] or [B, H, W, C]; {inputs!r} is {list(x.shape)}.")
        height, width = x.shape[1:3]
        side = jnp.sqrt(1 - _beta(draw(key, "share"), alpha))
        rows = _interval(draw(key, "row"), height, side)
        columns = _interval(draw(key, "column"), width, side)
        box = rows[:, None] & columns[None, :]
        cut = jnp.where(box.reshape(box.shape + (1,) * (x.ndim - 3)), other, x)
        return cut, 1 - jnp.mean(box.astype(jnp.float32))

    return mix_examples(loss, blend, num_classes=num_classes, inputs=inputs, labels=labels)


def mix_examples(
    loss: Loss, blend: Callable, *, num_classes: int, inputs: str = "image", labels: str = "label"
) -> Loss:
    """Evaluate `loss` on blends of each example with the previous one of the batch, with blended labels.

    `blend(key, x, x') -> (inputs, share)` makes the inputs from each example and the previous one. The labels become
    share * y + (1 - share) * y'. They are class numbers, int [batch], or probabilities [batch, num_classes], and become
    probabilities in f32. A class number out of range becomes NaN.

    A real example is never mixed with padding (mask 0). Mixing precedes an `augment` of `loss` itself. The expectation
    of this loss over keys and batches does not depend on the batch size. A batch may therefore be split, with each part
    mixed separately. Limit: with share 1 (alpha 0) it equals `loss`. Effect on `stats`: that of `loss`. The key is
    folded with "mix" for the blend; `loss` receives it unchanged.

    Raises UserError, while tracing, for a batch of one, as under `private`: there is nothing to mix with.
    """

    def loss_of_mixed(params, ctx):
        x, y = jnp.asarray(field(ctx.batch, inputs)), jnp.asarray(field(ctx.batch, labels))
        if len(x) < 2:
            raise UserError("mixing needs at least two examples; this batch has 1 (private() uses batches of 1).")
        mask = ctx.batch.get("mask")
        if jnp.issubdtype(y.dtype, jnp.integer):
            is_valid = (y >= 0) & (y < num_classes)
            y = jnp.where(is_valid[:, None], jax.nn.one_hot(y, num_classes), jnp.nan)
        x, share = blend(draw(ctx.key, "mix"), x, previous_example(x, mask))
        y = share * y + (1 - share) * previous_example(y, mask)
        return loss(params, ctx._replace(batch={**ctx.batch, inputs: x, labels: y}))

    return loss_of_mixed


def previous_example(
    values: Shaped[Array, " batch *example"], mask: Num[Array, " batch"] | Bool[Array, " batch"] | None = None
) -> Shaped[Array, " batch *example"]:
    """Replace every row by the previous one, and the first by the last. With a mask, skip rows of padding."""
    if mask is None:
        return jnp.roll(values, 1, axis=0)
    rows = jnp.arange(len(values))
    # The last real row up to and including each row; -1 before the first.
    last = jax.lax.cummax(jnp.where(jnp.asarray(mask) > 0, rows, -1))
    previous = jnp.roll(last, 1).at[0].set(-1)
    return values[jnp.maximum(jnp.where(previous < 0, last[-1], previous), 0)]


def _beta(key: Key[Array, ""], alpha: float) -> Float[Array, ""]:
    # As alpha falls, Beta(alpha, alpha) tends to 0 or 1, and both leave the examples unmixed.
    return jax.random.beta(key, alpha, alpha) if alpha else jnp.float32(1)


def _interval(key: Key[Array, ""], length: int, fraction: Float[Array, ""]) -> Bool[Array, " {length}"]:
    """Mask the positions along an axis inside the box: about fraction * length around a random centre."""
    centre = jax.random.randint(key, (), 0, length)
    size = jnp.floor(fraction * length)
    start = centre - size // 2
    positions = jnp.arange(length)
    return (positions >= start) & (positions < start + size)
