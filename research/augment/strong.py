"""Strong augmentation of small images on the device: affine transforms, colour changes and cutout.

Pixels are 0..255. Results have the type of the images; integers are rounded.
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
    """Return a strong augmentation, `(key, batch) -> batch`: flip, `affine`, `colour`, then `cutout`.

    It replaces the RandAugment and Cutout of FixMatch (Sohn et al. 2020, section 2.3). Unlike there, every image gets
    every operation, at a random strength that is uniform up to the argument; the cutout has a fixed size, `hole`
    pixels. If all strengths and `hole` are 0, only the flip remains.
    """

    def augment(key: Key[Array, ""], batch: Mapping) -> dict:
        images = flip(draw(key, "flip"), batch[inputs])
        warped = affine(
            draw(key, "affine"), images, degrees=degrees, shear=shear, zoom=zoom, shift=shift, fill=fill
        )  # fmt: skip
        images = colour(draw(key, "colour"), warped, brightness=brightness, contrast=contrast)
        return {**batch, inputs: cutout(draw(key, "cutout"), images, size=hole, fill=fill)}

    return augment


def affine(
    key: Key[Array, ""], images: Num[Array, "batch height width channels"], *, degrees: float = 0.0, shear: float = 0.0,
    zoom: float = 0.0, shift: float = 0.0, fill: float = 0,
) -> Num[Array, "batch height width channels"]:  # fmt: skip
    """Apply a random affine transform to each image; all four strengths are symmetric around no change.

    Each image is rotated by up to `degrees`, sheared along one axis by up to `shear`, scaled by a factor whose
    logarithm is at most log(1 + zoom) in size, and shifted by up to the fraction `shift` of its height and width.
    Uncovered pixels are `fill`.
    """

    def uniform(name: str, limit: float | Scalar) -> Float[Array, " batch"]:
        return jax.random.uniform(draw(key, name), (len(images),), minval=-1.0, maxval=1.0) * limit

    angle, slant = jnp.deg2rad(uniform("turn", degrees)), uniform("shear", shear)
    vertical = jax.random.bernoulli(draw(key, "axis"), 0.5, (len(images),))
    cos, sin, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), jnp.ones_like(angle)
    rotation = _matrices(cos, -sin, sin, cos)
    shearing = _matrices(one, jnp.where(vertical, slant, zero), jnp.where(vertical, zero, slant), one)
    scale = jnp.exp(uniform("zoom", jnp.log1p(zoom)))
    height, width = images.shape[1:3]
    offsets = jnp.stack([uniform("down", shift * height), uniform("right", shift * width)], -1)
    return resample(images, rotation @ shearing / scale[:, None, None], offsets, fill=fill)


def resample(
    images: Num[Array, "batch height width channels"],
    matrices: Float[Array, "batch 2 2"],
    shifts: Float[Array, "batch 2"],
    *,
    fill: float = 0,
) -> Num[Array, "batch height width channels"]:
    """Resample images bilinearly under affine maps from output to input coordinates.

    The output pixel at p reads the input at matrix @ p + shift. Coordinates are (row, column) in pixels from the centre
    of the image. Points outside the image are `fill`. The result has the type of the images. It equals
    `scipy.ndimage.affine_transform(order=1, mode="constant")`, applied to each channel.
    """
    height, width = images.shape[1:3]
    center = jnp.array([(height - 1) / 2, (width - 1) / 2])
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    grid = jnp.stack([rows, columns], -1) - center

    def resample_one(image, matrix, shift):
        at = jnp.moveaxis(grid @ matrix.T + shift + center, -1, 0)
        sample = lambda plane: jax.scipy.ndimage.map_coordinates(plane, list(at), order=1, mode="constant", cval=fill)
        return jnp.stack([sample(image[..., c]) for c in range(image.shape[-1])], -1)

    return _cast_like(images, jax.vmap(resample_one)(images.astype(jnp.float32), matrices, shifts))


def colour(
    key: Key[Array, ""],
    images: Num[Array, "batch height width channels"],
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
) -> Num[Array, "batch height width channels"]:
    """Change the brightness and contrast of each image at random, and clip to 0..255.

    Each pixel becomes mean + (1 + c) * (pixel - mean) + 255 * b, where mean is the mean of the image. b is uniform over
    +-`brightness`, c over +-`contrast`.
    """
    b = jax.random.uniform(draw(key, "brightness"), (len(images), 1, 1, 1), minval=-brightness, maxval=brightness)
    c = jax.random.uniform(draw(key, "contrast"), (len(images), 1, 1, 1), minval=-contrast, maxval=contrast)
    pixels = images.astype(jnp.float32)
    mean = pixels.mean((1, 2, 3), keepdims=True)
    return _cast_like(images, jnp.clip(mean + (1 + c) * (pixels - mean) + 255 * b, 0, 255))


def cutout(
    key: Key[Array, ""], images: Num[Array, "batch height width channels"], *, size: int, fill: float = 0
) -> Num[Array, "batch height width channels"]:
    """Set a random square of each image, `size` pixels per side, to `fill` (DeVries & Taylor 2017, arXiv:1708.04552).

    The centre of the square is uniform over the image, thus the square may extend beyond the border.
    """
    sides = images.shape[1:3]
    corner = jax.random.randint(key, (len(images), 2), 0, jnp.array(sides)) - size // 2

    def inside(axis):
        index = jnp.arange(sides[axis])[None, :]
        return (index >= corner[:, axis, None]) & (index < corner[:, axis, None] + size)

    hole = inside(0)[:, :, None, None] & inside(1)[:, None, :, None]
    return jnp.where(hole, jnp.asarray(fill, images.dtype), images)


def _matrices(
    a: Float[Array, " batch"], b: Float[Array, " batch"], c: Float[Array, " batch"], d: Float[Array, " batch"]
) -> Float[Array, "batch 2 2"]:
    return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def _cast_like(
    images: Num[Array, "batch height width channels"], changed: Float[Array, "batch height width channels"]
) -> Num[Array, "batch height width channels"]:
    """Cast `changed` to the type of the images; round it for integers."""
    if jnp.issubdtype(images.dtype, jnp.integer):
        changed = jnp.round(changed)
    return changed.astype(images.dtype)
