"""Strong augmentation of small images on the device: bent, recoloured and partly covered, still recognisable.

Pixels are 0..255 of any type; integers come back rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from research.augment.image import flip
from research.axes import Array, Float, Key, Num, Scalar
from research.core import draw


def strong(
    *, degrees: float = 30.0, shear: float = 0.3, zoom: float = 0.2, shift: float = 0.1, brightness: float = 0.3,
    contrast: float = 0.5, hole: int = 14, fill: float = 0, inputs: str = "image",
) -> Callable:  # fmt: skip
    """An augmentation `(key, batch) -> batch`: flip, `affine`, `colour`, then `cutout`, each at random strength.

    It takes the place of FixMatch's RandAugment and Cutout (Sohn et al. 2020, section 2.3), with each operation applied
    to each image, at a strength uniform up to the given one. With all strengths 0 only the flip is left.
    """

    def augment(key: Key[Array, ""], batch: Mapping) -> dict:
        images = flip(draw(key, "flip"), batch[inputs])
        bent = affine(
            draw(key, "affine"), images, degrees=degrees, shear=shear, zoom=zoom, shift=shift, fill=fill
        )  # fmt: skip
        images = colour(draw(key, "colour"), bent, brightness=brightness, contrast=contrast)
        return {**batch, inputs: cutout(draw(key, "cutout"), images, size=hole, fill=fill)}

    return augment


def affine(
    key: Key[Array, ""], images: Num[Array, "batch height width channels"], *, degrees: float = 0.0, shear: float = 0.0,
    zoom: float = 0.0, shift: float = 0.0, fill: float = 0,
) -> Num[Array, "batch height width channels"]:  # fmt: skip
    """Each image turned by up to `degrees` either way, sheared along one axis by up to `shear`, enlarged by a factor
    whose logarithm is up to log(1 + zoom) either way, and moved by up to the share `shift` of its sides.
    """

    def uniform(name: str, limit: float | Scalar) -> Float[Array, " batch"]:
        return jax.random.uniform(draw(key, name), (len(images),), minval=-1.0, maxval=1.0) * limit

    angle, slant = jnp.deg2rad(uniform("turn", degrees)), uniform("shear", shear)
    along = jax.random.bernoulli(draw(key, "axis"), 0.5, (len(images),))
    cos, sin, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), jnp.ones_like(angle)
    turned = _matrices(cos, -sin, sin, cos)
    sheared = _matrices(one, jnp.where(along, slant, zero), jnp.where(along, zero, slant), one)
    size = jnp.exp(uniform("zoom", jnp.log1p(zoom)))
    height, width = images.shape[1:3]
    moved = jnp.stack([uniform("down", shift * height), uniform("right", shift * width)], -1)
    return resample(images, turned @ sheared / size[:, None, None], moved, fill=fill)


def resample(
    images: Num[Array, "batch height width channels"],
    matrices: Float[Array, "batch 2 2"],
    shifts: Float[Array, "batch 2"],
    *,
    fill: float = 0,
) -> Num[Array, "batch height width channels"]:
    """Bilinear: the pixel at p (row, column, from the middle) is taken from matrix @ p + shift; outside is `fill`.

    Shifts are in pixels. The type of the images stays. The same as
    `scipy.ndimage.affine_transform(order=1, mode="constant")` channel by channel.
    """
    height, width = images.shape[1:3]
    middle = jnp.array([(height - 1) / 2, (width - 1) / 2])
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    grid = jnp.stack([rows, columns], -1) - middle

    def one(image, matrix, shift):
        at = jnp.moveaxis(grid @ matrix.T + shift + middle, -1, 0)
        sample = lambda plane: jax.scipy.ndimage.map_coordinates(plane, list(at), order=1, mode="constant", cval=fill)
        return jnp.stack([sample(image[..., c]) for c in range(image.shape[-1])], -1)

    return _as(images, jax.vmap(one)(images.astype(jnp.float32), matrices, shifts))


def colour(
    key: Key[Array, ""],
    images: Num[Array, "batch height width channels"],
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
) -> Num[Array, "batch height width channels"]:
    """Each image with 255 * b added to all pixels and its distance from its own mean multiplied by 1 + c; b and c
    are uniform up to `brightness` and `contrast` either way. Clipped to 0..255.
    """
    b = jax.random.uniform(draw(key, "brightness"), (len(images), 1, 1, 1), minval=-brightness, maxval=brightness)
    c = jax.random.uniform(draw(key, "contrast"), (len(images), 1, 1, 1), minval=-contrast, maxval=contrast)
    pixels = images.astype(jnp.float32)
    mean = pixels.mean((1, 2, 3), keepdims=True)
    return _as(images, jnp.clip(mean + (1 + c) * (pixels - mean) + 255 * b, 0, 255))


def cutout(
    key: Key[Array, ""], images: Num[Array, "batch height width channels"], *, size: int, fill: float = 0
) -> Num[Array, "batch height width channels"]:
    """A square of `size` pixels a side of each image set to `fill`; its middle is anywhere in the image, thus it may
    reach over the border (DeVries & Taylor 2017, arXiv:1708.04552).
    """
    sides = images.shape[1:3]
    corner = jax.random.randint(key, (len(images), 2), 0, jnp.array(sides)) - size // 2

    def inside(axis):
        at = jnp.arange(sides[axis])[None, :]
        return (at >= corner[:, axis, None]) & (at < corner[:, axis, None] + size)

    hole = inside(0)[:, :, None, None] & inside(1)[:, None, :, None]
    return jnp.where(hole, jnp.asarray(fill, images.dtype), images)


def _matrices(
    a: Float[Array, " batch"], b: Float[Array, " batch"], c: Float[Array, " batch"], d: Float[Array, " batch"]
) -> Float[Array, "batch 2 2"]:
    return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def _as(
    images: Num[Array, "batch height width channels"], changed: Float[Array, "batch height width channels"]
) -> Num[Array, "batch height width channels"]:
    """`changed`, of the type of the images."""
    if jnp.issubdtype(images.dtype, jnp.integer):
        changed = jnp.round(changed)
    return changed.astype(images.dtype)
