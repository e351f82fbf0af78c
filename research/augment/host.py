"""Augmentation on the host, record by record, for images whose sizes differ: `(rng, record) -> record`.

`rng` belongs to the record.
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
    """A random part of the image, resized.

    Its share of the area is uniform in `area`, the logarithm of its width : height uniform in `ratio` (Szegedy et al.
    2015, section 6). If no attempt fits inside the image, the largest centred square is taken.
    """
    height, width = image.shape[:2]
    for _ in range(attempts):
        share = rng.uniform(*area) * height * width
        aspect = math.exp(rng.uniform(*np.log(ratio)))
        w, h = round(math.sqrt(share * aspect)), round(math.sqrt(share / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            break
    else:
        w = h = min(height, width)
        left, top = (width - w) // 2, (height - h) // 2
    box = (int(left), int(top), int(left + w), int(top + h))
    # Cut before resizing: the filter may not reach pixels outside the crop.
    return np.asarray(Image.fromarray(image).crop(box).resize((size, size), Image.Resampling.BILINEAR))


def center_crop(
    image: UInt8[np.ndarray, "height width 3"], *, size: int, resize: int | None = None
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The middle, after the shorter side is resized to `resize` (else `size`)."""
    height, width = image.shape[:2]
    scale = (resize or size) / min(height, width)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    resized = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def flip(rng: np.random.Generator, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """The image, mirrored left to right with probability 1/2."""
    return image[:, ::-1] if rng.random() < 0.5 else image
