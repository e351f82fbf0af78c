"""Host augmentation for images of different sizes, applied to one record at a time.

`batches(augment=)` calls `(rng, record) -> record` with a generator for each record. These functions transform the
image of a record.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from research.axes import UInt8


def inception_crop(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "height width 3"],
    *,
    size: int,
    area: tuple[float, float] = (0.05, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    attempts: int = 10,
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Crop a random part of the image and resize it to `size` pixels per side (Szegedy et al. 2015, section 6).

    The area fraction of the crop is uniform over `area`; its aspect ratio, width : height, is log-uniform over `ratio`.
    If no attempt fits inside the image, the crop is the largest centred square.
    """
    height, width = image.shape[:2]
    for _ in range(attempts):
        pixels = rng.uniform(*area) * height * width
        aspect = math.exp(rng.uniform(*np.log(ratio)))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            break
    else:
        w = h = min(height, width)
        left, top = (width - w) // 2, (height - h) // 2
    box = (int(left), int(top), int(left + w), int(top + h))
    # Trap: crop before resizing. Otherwise the filter would use pixels outside the crop.
    return np.asarray(Image.fromarray(image).crop(box).resize((size, size), Image.Resampling.BILINEAR))


def center_crop(
    image: UInt8[np.ndarray, "height width 3"], *, size: int, resize: int | None = None
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Resize the shorter side to `resize` pixels (default: `size`), then crop the central square of `size` pixels."""
    height, width = image.shape[:2]
    scale = (resize or size) / min(height, width)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    resized = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def flip(rng: np.random.Generator, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """Mirror the image horizontally with probability 1/2."""
    return image[:, ::-1] if rng.random() < 0.5 else image
