"""RandAugment (Cubuk et al. 2020) on the host: a few random image operations of one magnitude."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from research.axes import UInt8
from research.errors import check_range

GREY = (128, 128, 128)  # the colour of pixels outside the image


def rand_augment(
    rng: np.random.Generator, image: UInt8[np.ndarray, "height width 3"], *, layers: int = 2, magnitude: float = 10.0
) -> UInt8[np.ndarray, "height width 3"]:
    """Apply `layers` operations, drawn from OPERATIONS with replacement.

    The operations and their constants follow the authors' TPU reference code, with PIL instead of TensorFlow. At
    magnitude 10, rotations are 30 degrees, shears 0.3, translations 100 pixels, and cutout squares 80 pixels per side.
    Raises UserError for a negative number of layers or magnitude.
    """
    check_range("rand_augment", layers=(layers, 0, math.inf), magnitude=(magnitude, 0, math.inf))
    level = magnitude / 10
    picture = Image.fromarray(image)
    for number in rng.integers(len(OPERATIONS), size=layers):
        picture = OPERATIONS[number](picture, level, rng)
    return np.asarray(picture)


def _sign(rng):
    return 1 if rng.random() < 0.5 else -1


def _affine(picture, *matrix):
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


def _rotate(picture, level, rng):
    return picture.rotate(30 * level * _sign(rng), fillcolor=GREY)


def _shear_x(picture, level, rng):
    return _affine(picture, 1, 0.3 * level * _sign(rng), 0, 0, 1, 0)


def _shear_y(picture, level, rng):
    return _affine(picture, 1, 0, 0, 0.3 * level * _sign(rng), 1, 0)


def _translate_x(picture, level, rng):
    return _affine(picture, 1, 0, 100 * level * _sign(rng), 0, 1, 0)


def _translate_y(picture, level, rng):
    return _affine(picture, 1, 0, 0, 0, 1, 100 * level * _sign(rng))


def _posterize(picture, level, rng):
    # Trap: as in the reference, this number of bits remains, thus a larger magnitude changes the image less.
    bits = min(8, int(4 * level))
    return picture.point([value >> (8 - bits) << (8 - bits) for value in range(256)] * 3)


def _solarize(picture, level, rng):
    threshold = int(256 * level)  # the same trap: at magnitude 10 nothing changes
    return picture.point([value if value < threshold else 255 - value for value in range(256)] * 3)


def _solarize_add(picture, level, rng):
    return picture.point([min(255, v + int(110 * level)) if v < 128 else v for v in range(256)] * 3)


def _cutout(picture, level, rng):
    half = int(40 * level)
    x, y = rng.integers(picture.width), rng.integers(picture.height)
    pixels = np.array(picture)
    pixels[max(0, y - half) : y + half, max(0, x - half) : x + half] = GREY
    return Image.fromarray(pixels)


def _enhance_with(enhancer):
    return lambda picture, level, rng: enhancer(picture).enhance(1.8 * level + 0.1)


OPERATIONS = (
    lambda picture, level, rng: ImageOps.autocontrast(picture),
    lambda picture, level, rng: ImageOps.equalize(picture),
    lambda picture, level, rng: ImageOps.invert(picture),
    _rotate, _posterize, _solarize,
    _enhance_with(ImageEnhance.Color), _enhance_with(ImageEnhance.Contrast),
    _enhance_with(ImageEnhance.Brightness), _enhance_with(ImageEnhance.Sharpness),
    _shear_x, _shear_y, _translate_x, _translate_y, _cutout, _solarize_add,
)  # fmt: skip
