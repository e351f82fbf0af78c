"""Image augmentation on the device, inside the step: functions of a key and a batch of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Key, Num
from research.core import draw
from research.errors import UserError

Channels = float | Sequence[float] | Num[Array, "channels"]  # one number for all channels, or one per channel


def flip(
    key: Key[Array, ""], images: Num[Array, "batch height width channels"]
) -> Num[Array, "batch height width channels"]:
    """Mirror each image horizontally with probability 1/2."""
    mirrored = jax.random.bernoulli(key, 0.5, (len(images),))
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def crop(
    key: Key[Array, ""],
    images: Num[Array, "batch height width channels"],
    *,
    padding: int,
    mode: str = "constant",
    fill: Channels = 0,
) -> Num[Array, "batch height width channels"]:
    """Pad each image by `padding` pixels per side and crop it to its original size at a random offset.

    `mode` is "constant" or "reflect" (as in numpy.pad); `fill` is the border colour for "constant". He et al. 2016
    (section 4.2) pad mean-subtracted images with 4 zeros; for raw images this equals `fill` = the mean colour. Raises
    UserError for any other mode.
    """
    if mode not in ("constant", "reflect"):
        raise UserError(f"unknown padding mode {mode!r}; expected 'constant' or 'reflect'.")
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    if mode == "constant":
        fill = jnp.asarray(fill, images.dtype)
        padded = jnp.pad(images - fill, sides) + fill  # exact for integers: overflow wraps around and back
    else:
        padded = jnp.pad(images, sides, mode="reflect")
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)

    # One slice per example takes half the time of a single gather on CPU.
    def cut(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(cut)(padded, corners)


def normalize(
    images: Num[Array, "*batch channels"], *, mean: Channels, std: Channels, dtype=jnp.float32
) -> Float[Array, "*batch channels"]:
    """Normalize pixels: (images / 255 - mean) / std, as `dtype`.

    Pixels are 0..255 of any type; `mean` and `std` are on the scale 0..1.
    """
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return ((images.astype(jnp.float32) - 255 * mean) / (255 * std)).astype(dtype)


def crop_and_flip(*, padding: int, inputs: str = "image", **arguments) -> Callable:
    """Return the standard augmentation of small images, `(key, batch) -> batch`: `crop`, then `flip`.

    `arguments` are the keyword arguments of `crop`.
    """

    def augment(key: Key[Array, ""], batch: Mapping) -> dict:
        images = crop(draw(key, "crop"), batch[inputs], padding=padding, **arguments)
        return {**batch, inputs: flip(draw(key, "flip"), images)}

    return augment
