"""Annotations of images in memory, in one form for all file formats.

Coordinates are pixels from the upper left corner of the image: the first pixel covers 0 to 1. They are rounded to a
millionth, which makes conversions between formats exact: other formats store widths or fractions of the image.
"""

from __future__ import annotations

import json
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from research.axes import Bool, Float, Int
from research.data.readers import paths
from research.errors import UserError, format_names, unknown
from research.files import MOST_TEXT, atomic_write, read_text

DECIMALS = 6
LARGEST = 10**6  # pixels of a side
MOST_PIXELS = 2**28  # of a mask that is unpacked


class LostAnnotation(UserWarning):
    """A format cannot hold a part of the annotations, which was left out on request."""


class Mask(NamedTuple):
    """Pixels by run lengths, as in COCO: columns from left to right, alternating runs of 0 and 1, first of 0."""

    height: int
    width: int
    counts: Int[np.ndarray, " points"]

    def pixels(self) -> Bool[np.ndarray, "height width"]:
        """Return the mask as an array. Raises UserError for more than MOST_PIXELS."""
        if self.height * self.width > MOST_PIXELS:
            raise UserError(f"a mask of {self.width} x {self.height} pixels; expected at most {MOST_PIXELS}.")
        values = np.arange(len(self.counts)) % 2 > 0
        return np.repeat(values, self.counts).reshape(self.width, self.height).T


class Skeleton(NamedTuple):
    """The names of the key points of a class, and the pairs of them (from 0) that are drawn as lines."""

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()


class Instance(NamedTuple):
    """One object of an image.

    label: the number of its class
    box: x1, y1, x2, y2
    polygons: outlines, [points, 2] each
    mask: its pixels, instead of polygons
    keypoints: [points, 3], x, y and visibility: 0 not annotated, 1 hidden, 2 visible
    crowd: whether it is a group that is not separated
    attributes: by name, such as truncated and difficult in Pascal VOC
    area: in pixels, as a file states it
    id: the number that COCO gives it
    """

    label: int
    box: Float[np.ndarray, " 4"]
    polygons: tuple[Float[np.ndarray, "points 2"], ...] = ()
    mask: Mask | None = None
    keypoints: Float[np.ndarray, "points 3"] | None = None
    crowd: bool = False
    attributes: Mapping[str, bool | float | str] = {}
    area: float | None = None
    id: int | None = None


class Picture(NamedTuple):
    """An image: its file name (a relative path with /), its size in pixels, its objects, and COCO's number of it."""

    name: str
    width: int
    height: int
    instances: tuple[Instance, ...] = ()
    id: int | None = None


class Annotations(NamedTuple):
    """Images with their objects. `skeletons` are by class name, and `class_ids` are COCO's numbers of the classes."""

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    skeletons: Mapping[str, Skeleton] = {}
    class_ids: tuple[int, ...] | None = None


def points(values, *, columns: int, place: str, scale=1.0) -> Float[np.ndarray, "points _"]:
    """Return numbers, times `scale`, as rounded coordinates [points, columns]. Raises UserError for anything else."""
    try:
        array = np.asarray(values, np.float64).reshape(-1, columns) * scale
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{place}: {reprlib.repr(values)}; expected {columns} numbers for each point.") from error
    if array.size and not (np.abs(array) <= LARGEST).all():  # NaN too
        raise UserError(f"{place}: {reprlib.repr(values)}; expected finite coordinates of up to {LARGEST} pixels.")
    return np.round(array, DECIMALS)


def box(values, *, place: str) -> Float[np.ndarray, " 4"]:
    """Return x1, y1, x2, y2 as a box. Raises UserError unless x1 <= x2 and y1 <= y2."""
    found = points(values, columns=4, place=place)
    if len(found) != 1 or (found[0, :2] > found[0, 2:]).any():
        raise UserError(f"{place}: the box {found.ravel().tolist()}; expected x1 <= x2 and y1 <= y2.")
    return found[0]


def bounds(polygon: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, " 4"]:
    """Return the box of a polygon."""
    return np.concatenate([polygon.min(0), polygon.max(0)])


def polygon(values, *, place: str) -> Float[np.ndarray, "points 2"]:
    """Return a polygon [points, 2]. Raises UserError for fewer than three points."""
    found = points(values, columns=2, place=place)
    if len(found) < 3:
        raise UserError(f"{place}: a polygon of {len(found)} points; expected 3 or more.")
    return found


def size(width, height, *, place: str) -> tuple[int, int]:
    """Return the width and height of an image. Raises UserError unless both are integers from 1 to LARGEST."""
    for value in (width, height):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
            raise UserError(f"{place}: a size of {width!r} x {height!r}; expected integers from 1 to {LARGEST}.")
    return width, height


def read_file(path, *, most: int = MOST_TEXT, what: str = "annotation file") -> str:
    """Return the text of a file. Raises UserError for a link, a file that is not UTF-8, and more than `most` bytes."""
    path = paths.file(path, what=what)
    try:
        return read_text(path, most=most)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def read_annotation_json(path):
    """Return the value of a JSON file. Raises UserError for a file that is damaged, too large or too deep."""
    try:
        return json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}.") from error


def class_of(name, numbers: Mapping[str, int], *, place: str) -> int:
    """Return the number of a class. Raises UserError for an unknown name, with the nearest one."""
    if name not in numbers:
        raise unknown(f"class of {place}", name, numbers)
    return numbers[name]


def safe_name(name, *, place: str) -> str:
    """Return the file name of an image. Raises UserError for a path that leaves the folder of the images."""
    path = PurePosixPath(str(name))
    unsafe = not isinstance(name, str) or not path.name or path.is_absolute() or ".." in path.parts
    if unsafe or "\\" in name or "\0" in name or ":" in path.parts[0]:
        raise UserError(
            f"{place}: the file name {name!r}; expected a relative path with /, inside the folder of images."
        )
    return name


def write_new(texts: Mapping[Path, str]) -> None:
    """Write files. Raises UserError, before anything is written, if one of them exists."""
    for path in texts:
        if path.exists():
            raise UserError(f"{path} exists; annotations are not replaced. Give another name, or remove it first.")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")


def check_unique(pictures: Iterable[Picture], *, key=str) -> None:
    """Raise UserError if two images have the same name, or the same `key(name)`."""
    seen: dict[str, str] = {}
    for picture in pictures:
        if (other := seen.get(key(picture.name))) is not None:
            raise UserError(f"the images {other!r} and {picture.name!r} have one name; expected every image once.")
        seen[key(picture.name)] = picture.name


def lost(problems: Sequence[str], *, what: str, lossy: bool) -> None:
    """Report content that a format cannot hold: raise UserError, or with `lossy` warn with LostAnnotation."""
    if not problems:
        return
    kinds = list(dict.fromkeys(problems))
    counted = [f"{kind} ({problems.count(kind)} times)" for kind in kinds]
    if not lossy:
        raise UserError(f"{what} cannot hold {format_names(counted)}. With lossy=True, they are left out.")
    warnings.warn(f"{what} cannot hold {format_names(counted)}: left out.", LostAnnotation, stacklevel=3)


def unheld(one: Instance, *, polygons: bool, keypoints: bool, attributes: Sequence[str]) -> list[str]:
    """Return the parts of an instance that a format without masks and crowds cannot hold, for `lost`.

    An attribute that is False, 0, empty or Unspecified says nothing, and counts as held.
    """
    found = ["a mask"] * (one.mask is not None) + ["a crowd"] * one.crowd
    found += ["a polygon"] * (bool(one.polygons) and not polygons)
    found += ["key points"] * (one.keypoints is not None and not keypoints)
    stated = [name for name, value in one.attributes.items() if value and value != "Unspecified"]
    return found + [f"the attribute {name!r}" for name in stated if name not in attributes]
