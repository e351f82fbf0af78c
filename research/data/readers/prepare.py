"""Making data ready once: download, convert, index. Reading it afterwards needs none of what made it."""

import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from research.data.builders import MODULES
from research.data.readers import paths
from research.data.readers.indexed import INDEX, indexed, write
from research.data.readers.open import READERS, open_path
from research.data.readers.tfds import prepared
from research.errors import UserError


class Prepared(NamedTuple):
    """What `prepare` made: where it lies, {split: number of records}, and the names of the fields."""

    path: pathlib.Path
    examples: dict[str, int]
    fields: tuple[str, ...]

    def __str__(self):
        counts = ", ".join(f"{count} {split}" for split, count in self.examples.items())
        return f"{self.path}: {counts} ({', '.join(self.fields)})"


def prepare(target, *, out=None) -> Prepared:
    """Makes a data set ready; what is ready already is left as it is.

    `target` is one of ours (digits, fashion_mnist, glyphs, stdlib_text) or any TFDS name, prepared under TFDS's data
    folder (`out` names another); or a .csv or .jsonl file or an image folder, converted into the folder `out` (by
    default beside it, with `.indexed` added); or any iterable of records, such as a generator of unknown length,
    converted into `out`. What is converted is read by `indexed(path)`. A killed `prepare` leaves no half of a data set.

    Raises UserError for unknown names and files, for an iterable without `out`, and where `out` holds other data.
    """
    if isinstance(target, str | os.PathLike):
        if target in MODULES or not _is_path(target):
            return _named(str(target), out)
        return _converted(paths.existing(target, what="data"), out)
    if not isinstance(target, Iterable) and not (hasattr(target, "__len__") and hasattr(target, "__getitem__")):
        raise UserError(f"cannot prepare a {type(target).__name__}; expected a name, a file, a folder or records.")
    if out is None:
        raise UserError("prepare(records) needs a folder to write: prepare(records, out=folder).")
    return _summary(write(target, out, classes=getattr(target, "classes", None)))


def _is_path(target):
    if isinstance(target, os.PathLike) or os.path.exists(os.path.expanduser(target)):
        return True
    return target.startswith(("/", ".", "~")) or pathlib.Path(target).suffix in READERS


def _named(name, out):
    builder = prepared(name, data_dir=out)
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    return Prepared(pathlib.Path(builder.data_path), counts, tuple(builder.info.features))


def _converted(path, out):
    if path.is_dir() and (path / INDEX).exists():
        return _summary(indexed(path))
    out = pathlib.Path(out).expanduser() if out else path.with_name(path.name + ".indexed")
    origin = _fingerprint(path)
    if out.exists():
        data = indexed(out)
        if data.origin != origin:
            raise UserError(f"{str(out)!r} was made of other data than {str(path)!r} holds now; remove it first.")
        return _summary(data)
    data = open_path(path)
    return _summary(write((data[i] for i in range(len(data))), out, classes=data.classes, origin=origin))


def _fingerprint(path) -> str:
    """Changes when a file of the data is added, removed or written to."""
    files = [f for f in paths.below(path) if f.is_file()] if path.is_dir() else [path]
    stats = [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def _summary(data):
    return Prepared(data.path, {"all": len(data)}, data.fields)
