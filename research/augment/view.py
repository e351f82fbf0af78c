"""Random views of images on the device, for objectives that compare two views of the same example."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from research.augment.image import flip
from research.axes import Array, Float, Key, Num, Shaped
from research.core import draw
from research.fields import field


def resized_crop(
    key: Key[Array, ""],
    images: Num[Array, "batch height width channels"],
    *,
    area: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Float[Array, "batch height width channels"]:
    """A random part of each image, stretched to the whole, in f32.

    Its share of the area is uniform in `area`, the logarithm of its width : height uniform in `ratio` (Szegedy et al.
    2015, section 6), both cut if they leave the image, its place uniform. Pixels are interpolated bilinearly
    between their centres, without smoothing first: a part is never larger than the image. With area and ratio (1, 1)
    the image stays as it is.
    """
    _, height, width, _ = images.shape
    share, aspect, top, left = jax.random.uniform(key, (4, len(images)))
    share = area[0] + (area[1] - area[0]) * share
    aspect = jnp.exp(jnp.log(ratio[0]) + (jnp.log(ratio[1]) - jnp.log(ratio[0])) * aspect)
    h, w = (jnp.minimum(1, jnp.sqrt(share * a)) for a in (1 / aspect, aspect))
    rows, columns = _interpolation(height, h, top), _interpolation(width, w, left)
    # Rows and columns are interpolated by two matrix products: on CPU several times faster than gathering pixels.
    return jnp.einsum("bih,bhwc,bjw->bijc", rows, images.astype(jnp.float32), columns, optimize=[(0, 1), (0, 1)])


def _interpolation(
    size: int, share: Float[Array, " batch"], place: Float[Array, " batch"]
) -> Float[Array, "batch {size} {size}"]:
    """Matrices that read `size` evenly spaced points off a part of an axis of `size` pixels."""
    part = size * share[:, None]
    points = place[:, None] * (size - part) + (jnp.arange(size) + 0.5) / size * part - 0.5
    points = jnp.clip(points, 0, size - 1)  # beyond the last centres there is nothing to interpolate with
    return jnp.maximum(0, 1 - jnp.abs(points[..., None] - jnp.arange(size)))


def jitter(
    key: Key[Array, ""],
    images: Num[Array, "batch height width channels"],
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
) -> Float[Array, "batch height width channels"]:
    """Brightness and contrast changed at random, in f32.

    Each image is multiplied by a number from 1 +- `brightness`, then its differences from its own mean by one from
    1 +- `contrast` (both uniform; He et al. 2020 and Chen et al. 2020 use such changes). 0 and 0 change nothing.
    """
    low, high = jnp.array([[1 - brightness], [1 - contrast]]), jnp.array([[1 + brightness], [1 + contrast]])
    factors = jax.random.uniform(key, (2, len(images)), minval=low, maxval=high)
    bright, sharp = factors[:, :, None, None, None]
    images = images.astype(jnp.float32) * bright
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + sharp * (images - mean)


def random_view(
    *, area: tuple[float, float] = (0.2, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3), brightness: float = 0.4,
    contrast: float = 0.4, inputs: str = "image",
) -> Callable:  # fmt: skip
    """The augmentation `(key, batch) -> batch` of contrastive learning: `resized_crop`, `flip` and `jitter`."""

    def view(key: Key[Array, ""], batch: Mapping) -> dict:
        images = resized_crop(draw(key, "crop"), field(batch, inputs), area=area, ratio=ratio)
        images = flip(draw(key, "flip"), images)
        return {**batch, inputs: jitter(draw(key, "jitter"), images, brightness=brightness, contrast=contrast)}

    return view


def two_views(
    key: Key[Array, ""], batch: Mapping, *, view: Callable, inputs: str = "image"
) -> tuple[Shaped[Array, "batch ..."], Shaped[Array, "batch ..."]]:
    """The `inputs` of two batches that `view(key, batch) -> batch` makes of one, with a key for each."""
    return tuple(field(view(draw(key, "view", number), batch), inputs) for number in range(2))
