"""Augmentation on the host, record by record, for images whose sizes differ: `(rng, record) -> record`.

`rng` is a numpy Generator that belongs to the record. Images are uint8 [H, W, 3].
"""

import math

import numpy as np
from PIL import Image


def inception_crop(rng, image, *, size: int, area=(0.05, 1.0), ratio=(3 / 4, 4 / 3), attempts: int = 10):
    """A random part of the image, resized: [H, W, 3] -> [size, size, 3].

    Its share of the area is uniform in `area`, the logarithm of its width : height uniform in `ratio` (Szegedy et al.
    2015, section 6). Where no attempt fits inside the image, the largest centred square is taken.
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


def center_crop(image, *, size: int, resize: int | None = None):
    """The middle: [H, W, 3] -> [size, size, 3], once the shorter side is resized to `resize` (else `size`)."""
    height, width = image.shape[:2]
    scale = (resize or size) / min(height, width)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    resized = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))
    top, left = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[top : top + size, left : left + size]


def flip(rng, image):
    """The image, mirrored left to right with probability 1/2: [H, W, 3] -> the same."""
    return image[:, ::-1] if rng.random() < 0.5 else image
