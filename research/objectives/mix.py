"""Mixing examples: a loss on blends of two examples of the batch, with the same blend of their labels."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.axes import Array, Bool, Float, Key, Num, Shaped
from research.core import Loss, draw
from research.errors import UserError
from research.fields import field


def mixup(loss: Loss, *, alpha: float, num_classes: int, inputs: str = "image", labels: str = "label") -> Loss:
    """`loss` on share * x + (1 - share) * x', with labels mixed alike (Zhang et al. 2018, equation 1).

    x' is the example before x in the batch. One share for the whole batch, drawn from Beta(alpha, alpha) and at least
    1/2: the first label leads, as in Beyer et al. 2022. Pairs are symmetric, and nothing is lost by it. Inputs become
    f32. See `mixed` for the rest.
    """

    def blend(key, x, other):
        share = _beta(draw(key, "share"), alpha)
        share = jnp.maximum(share, 1 - share)
        x, other = x.astype(jnp.float32), other.astype(jnp.float32)
        return share * x + (1 - share) * other, share

    return mixed(loss, blend, num_classes=num_classes, inputs=inputs, labels=labels)


def cutmix(loss: Loss, *, alpha: float, num_classes: int, inputs: str = "image", labels: str = "label") -> Loss:
    """`loss` on images in which a box is cut out of x and filled from x' (Yun et al. 2019, equations 1 and 2).

    The box has its centre anywhere in the image and sides of sqrt(1 - s) times the image's, s drawn from
    Beta(alpha, alpha); it is cut at the image's edge, and the label's share is that of the pixels of x that are left.
    x' is the example before x in the batch, and all have the same box. Images are [batch, height, width], with
    channels or without, and keep their type. See `mixed` for the rest.

    Raises UserError, while tracing, if the inputs are no images.
    """

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

    return mixed(loss, blend, num_classes=num_classes, inputs=inputs, labels=labels)


def mixed(loss: Loss, blend: Callable, *, num_classes: int, inputs: str = "image", labels: str = "label") -> Loss:
    """`loss` of mixed examples: `blend(key, x, x') -> (inputs, share)` of each example and the one before it replaces
    the inputs, and share * y + (1 - share) * y' the labels. Those are class numbers, int [batch], or probabilities
    [batch, num_classes], and become probabilities in f32. A class number out of range becomes NaN.

    Padding (mask 0) is no neighbour of a real example. Mixing comes before an `augment` of `loss` itself. The mean of
    this loss over keys and batches does not depend on the batch's size; thus a batch may be split, each part mixed in
    itself. With share 1 (alpha 0) it is `loss`. `stats` are those of `loss`. The key is folded with "mix", and passed
    on as it is.

    Raises UserError, while tracing, for a batch of one, as under `private`: it has nothing to mix with.
    """

    def loss_of_mixed(params, ctx):
        x, y = jnp.asarray(field(ctx.batch, inputs)), jnp.asarray(field(ctx.batch, labels))
        if len(x) < 2:
            raise UserError("mixing needs at least two examples in a batch; this one has 1 (private() makes such).")
        mask = ctx.batch.get("mask")
        if jnp.issubdtype(y.dtype, jnp.integer):
            known = (y >= 0) & (y < num_classes)
            y = jnp.where(known[:, None], jax.nn.one_hot(y, num_classes), jnp.nan)
        x, share = blend(draw(ctx.key, "mix"), x, before(x, mask))
        y = share * y + (1 - share) * before(y, mask)
        return loss(params, ctx._replace(batch={**ctx.batch, inputs: x, labels: y}))

    return loss_of_mixed


def before(
    values: Shaped[Array, " batch *example"], mask: Num[Array, " batch"] | Bool[Array, " batch"] | None = None
) -> Shaped[Array, " batch *example"]:
    """`values` with every row replaced by the one before it, the first by the last. With a mask it is replaced by the
    nearest row before it that is not padding.
    """
    if mask is None:
        return jnp.roll(values, 1, axis=0)
    rows = jnp.arange(len(values))
    # The last real row up to each row; -1 ahead of the first.
    last = jax.lax.cummax(jnp.where(jnp.asarray(mask) > 0, rows, -1))
    found = jnp.roll(last, 1).at[0].set(-1)
    return values[jnp.maximum(jnp.where(found < 0, last[-1], found), 0)]


def _beta(key: Key[Array, ""], alpha: float) -> Float[Array, ""]:
    # Beta(alpha, alpha) tends to 0 or 1 as alpha falls; both leave the examples as they are.
    return jax.random.beta(key, alpha, alpha) if alpha else jnp.float32(1)


def _interval(key: Key[Array, ""], length: int, share: Float[Array, ""]) -> Bool[Array, " {length}"]:
    """The places along an axis that belong to the box: about share * length around a random centre."""
    centre = jax.random.randint(key, (), 0, length)
    size = jnp.floor(share * length)
    start = centre - size // 2
    at = jnp.arange(length)
    return (at >= start) & (at < start + size)
