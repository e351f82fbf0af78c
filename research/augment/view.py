"""Random views of images on the device, for contrastive and other objectives that compare two views."""

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
    """Crop a random part of each image and resize it to the size of the image, in f32.

    The area fraction of the crop is uniform over `area`; its aspect ratio is log-uniform over `ratio` (Szegedy et al.
    2015, section 6). The ratio is width : height, relative to the image. Sides longer than the image are clipped. The
    position is uniform. Interpolation is bilinear between pixel centres, without antialiasing, because a crop is never
    larger than the image. With `area` and `ratio` (1, 1) the image is unchanged.
    """
    _, height, width, _ = images.shape
    fraction, aspect, top, left = jax.random.uniform(key, (4, len(images)))
    fraction = area[0] + (area[1] - area[0]) * fraction
    aspect = jnp.exp(jnp.log(ratio[0]) + (jnp.log(ratio[1]) - jnp.log(ratio[0])) * aspect)
    h, w = (jnp.minimum(1, jnp.sqrt(fraction * a)) for a in (1 / aspect, aspect))
    rows, columns = _interpolation(height, h, top), _interpolation(width, w, left)
    # Two matrix products interpolate rows and columns. On CPU this is several times faster than gathering pixels.
    return jnp.einsum("bih,bhwc,bjw->bijc", rows, images.astype(jnp.float32), columns, optimize=[(0, 1), (0, 1)])


def _interpolation(
    size: int, fraction: Float[Array, " batch"], offset: Float[Array, " batch"]
) -> Float[Array, "batch {size} {size}"]:
    """Return matrices that interpolate `size` evenly spaced points of a part of an axis of `size` pixels.

    The part is `fraction` of the axis; `offset` (0..1) is its position, from the start to the end of the axis.
    """
    part = size * fraction[:, None]
    points = offset[:, None] * (size - part) + (jnp.arange(size) + 0.5) / size * part - 0.5
    points = jnp.clip(points, 0, size - 1)  # beyond the outermost pixel centres, repeat the border
    return jnp.maximum(0, 1 - jnp.abs(points[..., None] - jnp.arange(size)))


def jitter(
    key: Key[Array, ""],
    images: Num[Array, "batch height width channels"],
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
) -> Float[Array, "batch height width channels"]:
    """Change the brightness and contrast of each image at random, in f32.

    Each image is multiplied by a factor that is uniform over 1 +- `brightness`. Its differences from its mean are then
    multiplied by a factor that is uniform over 1 +- `contrast`. He et al. 2020 and Chen et al. 2020 use such changes.
    With both 0 the image is unchanged.
    """
    low, high = jnp.array([[1 - brightness], [1 - contrast]]), jnp.array([[1 + brightness], [1 + contrast]])
    factors = jax.random.uniform(key, (2, len(images)), minval=low, maxval=high)
    brightness_factor, contrast_factor = factors[:, :, None, None, None]
    images = images.astype(jnp.float32) * brightness_factor
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + contrast_factor * (images - mean)


def random_view(
    *, area: tuple[float, float] = (0.2, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3), brightness: float = 0.4,
    contrast: float = 0.4, inputs: str = "image",
) -> Callable:  # fmt: skip
    """Return the augmentation of contrastive learning, `(key, batch) -> batch`: `resized_crop`, `flip`, `jitter`."""

    def view(key: Key[Array, ""], batch: Mapping) -> dict:
        images = resized_crop(draw(key, "crop"), field(batch, inputs), area=area, ratio=ratio)
        images = flip(draw(key, "flip"), images)
        return {**batch, inputs: jitter(draw(key, "jitter"), images, brightness=brightness, contrast=contrast)}

    return view


def two_views(
    key: Key[Array, ""], batch: Mapping, *, view: Callable, inputs: str = "image"
) -> tuple[Shaped[Array, "batch ..."], Shaped[Array, "batch ..."]]:
    """Return the `inputs` of two random views of a batch. `view(key, batch) -> batch` gets a different key for each."""
    return tuple(field(view(draw(key, "view", number), batch), inputs) for number in range(2))
