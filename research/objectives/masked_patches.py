"""The masked autoencoder: most patches of an image are hidden, and drawn from those that are not (He et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Int, Key, Num
from research.core import Loss, Measure, Model, Out, draw, weighted_mean
from research.errors import UserError
from research.fields import example_weights, field
from research.models.vit import patches


class Split(NamedTuple):
    """The patches of each image in two, by number and in order."""

    kept: Int[Array, "batch visible"]
    hidden: Int[Array, "batch hidden"]


def masked_patches(
    encoder: Model | Callable, decoder: Model | Callable, *, patch: int, ratio: float = 0.75,
    augment: Callable | None = None, inputs: str = "image",
) -> Loss:  # fmt: skip
    """The Loss of a masked autoencoder; params are {"encoder": ..., "decoder": ...}, the two Models or their `apply`.

    A share `ratio` of each image's patches (of `patch` x `patch` pixels), chosen anew at every step, is hidden.
    `encoder(images, kept)` is called with the numbers of the others (see `Split`), and has to look at these alone;
    `decoder(its output, kept)` gives the pixels of all patches, [batch, patches, pixels]. The loss is the squared
    error per pixel on the hidden patches only, each patch normalised to mean 0 and variance 1 first (section 3,
    "Reconstruction target"); pixels may have any scale. The decoder's guesses of visible patches have no influence.

    `augment(key, batch) -> batch` runs first. The loss adds over examples; examples of mask 0 have no weight. The
    stats of both models are passed on. The key is folded with "augment", "hide", "encoder" and "decoder".

    Raises UserError, while tracing, if the patches do not tile the images, and for a ratio that leaves no patch
    visible or none hidden.
    """
    encode, decode = (getattr(m, "apply", m) for m in (encoder, decoder))

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        images = field(batch, inputs)
        split = hide(draw(ctx.key, "hide"), len(images), count=_count(images, patch), ratio=ratio)
        key, other = draw(ctx.key, "encoder"), draw(ctx.key, "decoder")
        tokens, changed = encode(params["encoder"], ctx.stats, images, split.kept, key=key, train=True)
        found, more = decode(params["decoder"], ctx.stats, tokens, split.kept, key=other, train=True)
        error = errors(found, images, split.hidden, patch=patch)
        mean = weighted_mean(error, example_weights(batch, len(images)))
        return mean.value(), Out({**changed, **more}, {"loss": mean})

    return loss


def measure_masked_patches(
    encoder: Model | Callable, decoder: Model | Callable, *, patch: int, ratio: float = 0.75, inputs: str = "image",
    seed: int = 0,
) -> Measure:  # fmt: skip
    """The measure of an Eval: the loss on hidden patches of images as they are, the same patches at every evaluation.

    They are hidden by a key of `seed` and the row of the batch. Examples of mask 0 do not count.
    """
    encode, decode = (getattr(m, "apply", m) for m in (encoder, decoder))

    def measure(trained, batch):
        params, stats, images = trained.params, trained.stats, field(batch, inputs)
        split = hide(draw(seed, "masked_patches"), len(images), count=_count(images, patch), ratio=ratio)
        tokens, _ = encode(params["encoder"], stats, images, split.kept, train=False)
        found, _ = decode(params["decoder"], stats, tokens, split.kept, train=False)
        error = errors(found, images, split.hidden, patch=patch)
        return {"loss": weighted_mean(error, example_weights(batch, len(images)))}

    return measure


def errors(
    predictions: Float[Array, "batch patches pixels"],
    images: Num[Array, "batch height width channels"],
    hidden: Int[Array, "batch hidden"],
    *,
    patch: int,
) -> Float[Array, " batch"]:
    """The mean squared error, in f32, of the predictions on the patches numbered `hidden` of the images, each patch
    normalised.
    """
    wanted = jnp.take_along_axis(normalized(patches(images, patch)), hidden[..., None], 1)
    found = jnp.take_along_axis(predictions.astype(jnp.float32), hidden[..., None], 1)
    return jnp.square(found - wanted).mean((1, 2))


def hide(key: Key[Array, ""], size: int, *, count: int, ratio: float) -> Split:
    """A Split of `count` patches for each of `size` images: round(ratio * count) are hidden, all choices alike.

    Raises UserError if that leaves none visible or none hidden.
    """
    hidden = round(ratio * count)
    if not 0 < hidden < count:
        raise UserError(f"hiding a share of {ratio} of {count} patches hides {hidden}; expected 1 to {count - 1}.")
    order = jnp.argsort(jax.random.uniform(key, (size, count)), -1)
    return Split(jnp.sort(order[:, hidden:], -1), jnp.sort(order[:, :hidden], -1))


def normalized(pixels: Num[Array, "*batch pixels"]) -> Float[Array, "*batch pixels"]:
    """Patches of mean 0 and variance 1 each, in f32; a patch of one colour becomes 0."""
    pixels = pixels.astype(jnp.float32)
    mean = pixels.mean(-1, keepdims=True)
    variance = jnp.square(pixels - mean).mean(-1, keepdims=True)
    return (pixels - mean) * jax.lax.rsqrt(variance + 1e-6)


def _count(images: Num[Array, "batch height width channels"], patch: int) -> int:
    """How many patches an image has; raises UserError if they do not tile it."""
    height, width = images.shape[1:3]
    if height % patch or width % patch:
        raise UserError(f"patches of {patch} pixels do not tile images of {[height, width]}.")
    return (height // patch) * (width // patch)
