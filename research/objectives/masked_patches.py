"""Masked autoencoders: hide most patches of an image and reconstruct them from the rest (He et al. 2022)."""

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
    """Indices of each image's visible (`kept`) and hidden patches, in increasing order."""

    kept: Int[Array, "batch visible"]
    hidden: Int[Array, "batch hidden"]


def masked_patches(
    encoder: Model | Callable, decoder: Model | Callable, *, patch: int, ratio: float = 0.75,
    augment: Callable | None = None, inputs: str = "image",
) -> Loss:  # fmt: skip
    """Make the Loss of a masked autoencoder on params {"encoder", "decoder"}; the two are Models or their `apply`.

    At every step a random fraction `ratio` of each image's patches (of `patch` x `patch` pixels) is hidden.
    `encoder(images, kept)` receives the indices of the visible patches (see `Split`) and must use only those;
    `decoder(its output, kept)` returns the pixels of all patches, [batch, patches, pixels]. The loss is the squared
    error per pixel on the hidden patches only. The target patches are first normalised to mean 0 and variance 1
    (section 3, "Reconstruction target"), so pixels may have any scale. Predictions for visible patches have no
    influence.

    `augment(key, batch) -> batch` runs first. The loss adds over examples; examples of mask 0 have no weight. Effect on
    `stats`: those of both models are passed on. The key is folded with "augment", "hide", "encoder" and "decoder".

    Raises UserError, while tracing, if the patches do not tile the images, and for a ratio that leaves no patch visible
    or none hidden.
    """
    encode, decode = (getattr(m, "apply", m) for m in (encoder, decoder))

    def loss(params, ctx):
        batch = augment(draw(ctx.key, "augment"), ctx.batch) if augment else ctx.batch
        images = field(batch, inputs)
        split = random_split(draw(ctx.key, "hide"), len(images), count=_num_patches(images, patch), ratio=ratio)
        key, decoder_key = draw(ctx.key, "encoder"), draw(ctx.key, "decoder")
        tokens, encoder_stats = encode(params["encoder"], ctx.stats, images, split.kept, key=key, train=True)
        pixels, decoder_stats = decode(params["decoder"], ctx.stats, tokens, split.kept, key=decoder_key, train=True)
        error = patch_errors(pixels, images, split.hidden, patch=patch)
        mean = weighted_mean(error, example_weights(batch, len(images)))
        return mean.value(), Out({**encoder_stats, **decoder_stats}, {"loss": mean})

    return loss


def measure_masked_patches(
    encoder: Model | Callable, decoder: Model | Callable, *, patch: int, ratio: float = 0.75, inputs: str = "image",
    seed: int = 0,
) -> Measure:  # fmt: skip
    """Make the measure of an Eval: the loss on hidden patches of unaugmented images.

    Every evaluation hides the same patches. `seed` and the row of the batch select the hidden patches. Examples of mask
    0 do not count.
    """
    encode, decode = (getattr(m, "apply", m) for m in (encoder, decoder))

    def measure(trained, batch):
        params, stats, images = trained.params, trained.stats, field(batch, inputs)
        split = random_split(draw(seed, "masked_patches"), len(images), count=_num_patches(images, patch), ratio=ratio)
        tokens, _ = encode(params["encoder"], stats, images, split.kept, train=False)
        predictions, _ = decode(params["decoder"], stats, tokens, split.kept, train=False)
        error = patch_errors(predictions, images, split.hidden, patch=patch)
        return {"loss": weighted_mean(error, example_weights(batch, len(images)))}

    return measure


def patch_errors(
    predictions: Float[Array, "batch patches pixels"],
    images: Num[Array, "batch height width channels"],
    hidden: Int[Array, "batch hidden"],
    *,
    patch: int,
) -> Float[Array, " batch"]:
    """Compute the mean squared error, in f32, on the patches with indices `hidden`, with target patches normalised."""
    target = jnp.take_along_axis(normalized(patches(images, patch)), hidden[..., None], 1)
    prediction = jnp.take_along_axis(predictions.astype(jnp.float32), hidden[..., None], 1)
    return jnp.square(prediction - target).mean((1, 2))


def random_split(key: Key[Array, ""], size: int, *, count: int, ratio: float) -> Split:
    """Make a Split of `count` patches for each of `size` images: hide round(ratio * count), chosen uniformly at random.

    Raises UserError if no patch would be visible or none hidden.
    """
    hidden = round(ratio * count)
    if not 0 < hidden < count:
        raise UserError(f"ratio={ratio} of {count} patches hides {hidden}; expected 1 to {count - 1} hidden patches.")
    order = jnp.argsort(jax.random.uniform(key, (size, count)), -1)
    return Split(jnp.sort(order[:, hidden:], -1), jnp.sort(order[:, :hidden], -1))


def normalized(pixels: Num[Array, "*batch pixels"]) -> Float[Array, "*batch pixels"]:
    """Normalise each patch to mean 0 and variance 1, in f32; a constant patch becomes 0."""
    pixels = pixels.astype(jnp.float32)
    mean = pixels.mean(-1, keepdims=True)
    variance = jnp.square(pixels - mean).mean(-1, keepdims=True)
    return (pixels - mean) * jax.lax.rsqrt(variance + 1e-6)


def _num_patches(images: Num[Array, "batch height width channels"], patch: int) -> int:
    """Return the number of patches of an image. Raises UserError if they do not tile it."""
    height, width = images.shape[1:3]
    if height % patch or width % patch:
        raise UserError(f"patches of {patch} pixels do not tile images of {[height, width]}.")
    return (height // patch) * (width // patch)
