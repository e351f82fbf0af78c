"""Prepare data once: download, convert and index it. Reading prepared data needs none of the tools that prepare it."""

import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from research.data.builders import MODULES
from research.data.packaged import NAMES
from research.data.readers import paths
from research.data.readers.indexed import INDEX, indexed, write
from research.data.readers.open import READERS, open_path
from research.data.readers.tfds import prepared
from research.errors import UserError


class Prepared(NamedTuple):
    """A prepared data set: its folder, {split: number of records}, and the names of its fields."""

    path: pathlib.Path
    examples: dict[str, int]
    fields: tuple[str, ...]

    def __str__(self):
        counts = ", ".join(f"{count} {split}" for split, count in self.examples.items())
        return f"{self.path}: {counts} ({', '.join(self.fields)})"


def prepare(target, *, out=None, source: str | None = None) -> Prepared:
    """Prepare a data set, unless it is prepared already.

    `target` is one of:
      - a name: digits, fashion_mnist, glyphs, stdlib_text, one of `research.data.packaged` or any TFDS name. `out`
        replaces TFDS's data folder. `source` ("tfds" or "openml") replaces the package of a packaged data set.
      - a .csv, .jsonl or .npz file or an image folder. It is converted into the folder `out`; the default is next to
        `target`, with the suffix `.indexed`.
      - any iterable of records, such as a generator. It is converted into `out`.

    Read converted data with `indexed(path)`. A killed `prepare` leaves no partial data set.

    Raises UserError for unknown names and files, for an iterable without `out`, and if `out` contains other data.
    """
    if source is not None and target not in NAMES:
        raise UserError(f"{target!r} has one source; expected a packaged data set, one of {', '.join(NAMES)}.")
    if isinstance(target, str | os.PathLike):
        if target in MODULES or not is_path(target):
            return _named(str(target), out, source)
        return _converted(paths.existing(target, what="data"), out)
    if not isinstance(target, Iterable) and not (hasattr(target, "__len__") and hasattr(target, "__getitem__")):
        raise UserError(f"cannot prepare a {type(target).__name__}; expected a name, a file, a folder or records.")
    if out is None:
        raise UserError("prepare(records) needs a folder to write to; use prepare(records, out=folder).")
    return _summary(write(target, out, classes=getattr(target, "classes", None)))


def is_path(target) -> bool:
    """Return whether `target` is a path, and not the name of a data set."""
    if isinstance(target, os.PathLike) or os.path.exists(os.path.expanduser(target)):
        return True
    return target.startswith(("/", ".", "~")) or pathlib.Path(target).suffix in READERS


def _named(name, out, source):
    builder = prepared(name, data_dir=out, **({"source": source} if source else {}))
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    return Prepared(pathlib.Path(builder.data_path), counts, tuple(builder.info.features))


def _converted(path, out):
    if path.is_dir() and (path / INDEX).exists():
        return _summary(indexed(path))
    out = pathlib.Path(out).expanduser() if out else path.with_name(path.name + ".indexed")
    origin = paths.fingerprint(path)
    if out.exists():
        data = indexed(out)
        if data.origin != origin:
            raise UserError(f"{str(out)!r} was made of other data than {str(path)!r} contains now; remove it first.")
        return _summary(data)
    data = open_path(path)
    return _summary(write((data[i] for i in range(len(data))), out, classes=data.classes, origin=origin))


def _summary(data):
    return Prepared(data.path, {"all": len(data)}, data.fields)
