"""Data sets in memory, and views of other data sets."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from research.data.readers import decoded_cache, records
from research.errors import UserError, format_names


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Records in memory: `columns` {field: [n, ...]}; `classes` names the values of `label`, or is None."""

    columns: Mapping[str, np.ndarray]
    classes: tuple[str, ...] | None = None

    def __repr__(self):
        fields = ", ".join(f"{name} {column.dtype}{list(column.shape[1:])}" for name, column in self.columns.items())
        classes = f"; classes {format_names(self.classes)}" if self.classes else ""
        return f"Arrays({len(self)} records: {fields}{classes})"

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i):
        return {name: column[i] for name, column in self.columns.items()}

    def column(self, name):
        """The column itself: a view."""
        return records.field(self.columns, name)

    def take(self, indices):
        """The records at `indices` [m] as {field: [m, ...]}, copied."""
        return {name: column[indices] for name, column in self.columns.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some records of a data set, in the order of `indices`; made by `subset`."""

    data: Any
    indices: np.ndarray

    def __repr__(self):
        return f"Subset({len(self)} of {self.data!r})"

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        return self.data[int(self.indices[i])]

    def __getitems__(self, indices):
        return records.records(self.data, self.indices[indices])

    def column(self, name):
        """The values of the records in this part, copied."""
        return column(self.data, name)[self.indices]

    @property
    def take(self):
        """The data set's own `take`; where it has none, this attribute is missing too."""
        inner = self.data.take
        return lambda indices: inner(self.indices[indices])

    @property
    def classes(self):
        """The data set's own."""
        return getattr(self.data, "classes", None)


@dataclasses.dataclass(frozen=True, eq=False)
class Mapped:
    """`fn(record) -> record` of every record, computed when it is read; made by `mapped`."""

    data: Any
    fn: Callable

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.fn(records.own(self.data[i]))

    def __getitems__(self, indices):
        return [self.fn(records.own(record)) for record in records.records(self.data, indices)]

    @property
    def classes(self):
        """The data set's own."""
        return getattr(self.data, "classes", None)


def arrays(**columns) -> Arrays:
    """A data set of your own arrays: `arrays(image=images, label=labels)`; every column is [n, ...].

    Lists of numbers, of strings and of arrays of different lengths are columns too. Arrays are not copied.
    Raises UserError where the columns differ in length, or there is none.
    """
    return of_columns(columns)


def of_columns(columns: Mapping[str, Any], *, classes=None) -> Arrays:
    """`arrays` of a dict, with the names of the classes."""
    if not columns:
        raise UserError("a data set without columns; expected e.g. arrays(image=images, label=labels).")
    made = {name: _as_column(name, values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in made.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the columns have different lengths: {lengths}; expected one row a record in each.")
    return Arrays(made, None if classes is None else tuple(classes))


def column(data, name: str) -> np.ndarray:
    """One field of every record of any data set, [n, ...]: `column(data, "label")`. Strings are an object array.

    A data set may have a method `column(name)`, which is used: an image folder then gives its labels without reading an
    image. Otherwise every record is read. Raises UserError with the nearest name if the records have no such field.
    """
    count = records.size_of(data)
    if hasattr(data, "column"):
        return data.column(name)
    chunks = [records.records(data, range(at, min(at + 1024, count))) for at in range(0, count, 1024)]
    return records.column([records.field(record, name) for chunk in chunks for record in chunk], name=name)


def subset(data, indices) -> Subset:
    """The records of `data` at `indices` [m] (a part of a split, say), in that order.

    Raises UserError for an index outside the data, and for no index at all.
    """
    count = records.size_of(data)
    indices = np.asarray(indices)
    if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu":
        raise UserError(
            f"a subset by {indices.dtype}{list(indices.shape)}; expected the numbers of records, at least 1."
        )
    if indices.min() < 0 or indices.max() >= count:
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise UserError(f"a subset with record {wrong} of a data set of {count}; expected 0 to {count - 1}.")
    return Subset(data, indices.astype(np.int64))


def mapped(data, fn: Callable) -> Mapped:
    """`data` with `fn(record) -> record` applied to each record when it is read.

    `fn` must be pure (random augmentation is the `augment` of `batches`); it gets a copy that it may write into.
    """
    records.size_of(data)
    return Mapped(data, fn)


def in_memory(data) -> Arrays:
    """All records of `data` as arrays in memory, read once; for data that fits, the fastest to draw batches from.

    What a TFDS set decodes to is kept beside its records, and read from there the next time.
    Raises UserError for empty data and for records that do not stack.
    """
    count = records.size_of(data)
    file = data.kept_file() if hasattr(data, "kept_file") else None
    columns = decoded_cache.read(file) if file else None
    if columns is None:
        chunks = [records.columns(data, np.arange(at, min(at + 1024, count))) for at in range(0, count, 1024)]
        columns = {name: _joined(name, [chunk[name] for chunk in chunks]) for name in chunks[0]}
        if file:
            decoded_cache.write(file, columns)
    return Arrays(columns, getattr(data, "classes", None))


def _joined(name, parts):
    for at, part in enumerate(parts):
        if part.shape[1:] != parts[0].shape[1:]:
            raise UserError(
                f"field {name!r} has the shape {list(part.shape[1:])} around record {at * 1024} and "
                f"{list(parts[0].shape[1:])} in record 0; resize or pad with mapped(data, fn)."
            )
    return np.concatenate(parts)


def _as_column(name, values):
    if isinstance(values, np.ndarray) and values.dtype != object:
        if not values.ndim:
            raise UserError(f"the column {name!r} is the single value {values!r}; expected one row a record.")
        return values
    if isinstance(values, list | tuple | np.ndarray):
        values = list(values)
        ragged = values and not isinstance(values[0], str | bytes) and len({np.shape(v) for v in values}) > 1
        if ragged:
            return records.objects([np.asarray(v) for v in values])
        return records.column(values, name=name) if values else np.empty(0)
    # A column of a table library, or an array of another framework.
    try:
        return np.asarray(values) if np.ndim(values) else _as_column(name, np.asarray(values))
    except (TypeError, ValueError) as error:
        raise UserError(f"the column {name!r} is a {type(values).__name__}; expected an array or a list.") from error
