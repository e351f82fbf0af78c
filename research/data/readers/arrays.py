"""Data sets in memory, and views of other data sets."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from research.data.fingerprint import combine, fingerprint, of_records
from research.data.readers import decoded_cache, records
from research.errors import UserError, format_names, unknown


class Origin(NamedTuple):
    """The rows [n] of a table from which records come, for checks.

    `fitted` are the rows of the table that the preparation of the records was fitted on, or None.
    """

    table: Any
    rows: np.ndarray
    fitted: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Records in memory: `columns` is {field: [n, ...]}; `classes` has the class names of `label`, or is None.

    `origin` is set if a preparation made the records of a table.
    """

    columns: Mapping[str, np.ndarray]
    classes: tuple[str, ...] | None = None
    origin: Origin | None = None

    def __repr__(self):
        fields = ", ".join(f"{name} {column.dtype}{list(column.shape[1:])}" for name, column in self.columns.items())
        classes = f"; classes {format_names(self.classes)}" if self.classes else ""
        return f"Arrays({len(self)} records: {fields}{classes})"

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i):
        return {name: column[i] for name, column in self.columns.items()}

    def column(self, name):
        """Return the column, not copied."""
        return records.field(self.columns, name)

    def take_columns(self, indices):
        """Return the records at `indices` [m] as {field: [m, ...]}: copies, or read-only views of neighbours."""
        first = indices[0] if len(indices) else 0
        if not np.array_equal(indices, np.arange(first, first + len(indices))):
            return {name: column[indices] for name, column in self.columns.items()}
        views = {name: column[first : first + len(indices)] for name, column in self.columns.items()}
        for view in views.values():
            view.setflags(write=False)
        return views


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Selected records of a data set, in the order of `indices`; created by `subset`."""

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
        """Return the column of the selected records, copied."""
        return column(self.data, name)[self.indices]

    @property
    def take_columns(self):
        """The `take_columns` of the data set. If that has none, accessing this attribute raises AttributeError."""
        inner = self.data.take_columns
        return lambda indices: inner(self.indices[indices])

    @property
    def classes(self):
        """The class names of the data set."""
        return class_names(self.data)

    def content_fingerprint(self):
        """Return the fingerprint of the selected records, or of all records and the selection if that is cheaper."""
        if hasattr(self, "take_columns"):
            return of_records(self)
        base = fingerprint(self.data)
        indices = self.indices.tolist()
        fields = {**base["fields"], "index of the record": combine(indices)}
        unordered = combine([base["unordered"], sorted(indices)])
        return {**base, "records": len(self), "fields": fields, "unordered": unordered}


@dataclasses.dataclass(frozen=True, eq=False)
class Mapped:
    """A data set with `fn(record) -> record` applied to each record when it is read; created by `mapped`.

    `classes` has the class names of `label`, or is None.
    """

    data: Any
    fn: Callable
    classes: tuple[str, ...] | None = None

    def __repr__(self):
        return f"Mapped({self.data!r})"

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.fn(records.own(self.data[i]))

    def __getitems__(self, indices):
        return [self.fn(records.own(record)) for record in records.records(self.data, indices)]

    def content_fingerprint(self):
        """Return the fingerprint of the data without `fn`, whose code is recorded and whose rounding may vary."""
        return fingerprint(self.data)


def data_set(data, *, what="the data set"):
    """Return `data` as a data set; the columns of a pandas, polars or pyarrow table become Arrays.

    Raises UserError if `data` has no length or is empty.
    """
    table = hasattr(data, "__dataframe__") or hasattr(data, "__arrow_c_stream__")
    if table and not hasattr(data, "__getitems__"):
        names = getattr(data, "column_names", None) or list(data.columns)
        data = of_columns({str(name): data[name] for name in names})
    try:
        count = len(data)
    except TypeError:
        raise UserError(
            f"{what} is a {type(data).__name__} without len() and [i]; convert a stream once with "
            "prepare(stream, out=folder) and read it with indexed(folder)."
        ) from None
    if not count:
        raise UserError(f"{what} is empty.")
    return data


def arrays(**columns) -> Arrays:
    """Create a data set from arrays: `arrays(image=images, label=labels)`. Every column is [n, ...].

    A column may also be a list of numbers, of strings, or of arrays of different lengths. Arrays are not copied.
    Raises UserError if the columns differ in length, or without columns.
    """
    return of_columns(columns)


def of_columns(columns: Mapping[str, Any], *, classes=None) -> Arrays:
    """Create a data set from a dict of columns, with optional class names; otherwise like `arrays`."""
    if not columns:
        raise UserError("the data set is without columns; expected, for example, arrays(image=images, label=labels).")
    converted = {name: _as_column(name, values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in converted.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the columns have different lengths: {lengths}; expected one row per record in each.")
    return Arrays(converted, None if classes is None else tuple(classes))


def column(data, name: str) -> np.ndarray:
    """Return one field of all records as an array, as in `column(data, "label")`. Strings become an object array.

    If the data set has a method `column(name)`, that is used: an image folder, for example, returns its labels without
    reading images. Otherwise every record is read. Raises UserError for an unknown field, with a suggestion.
    """
    data = data_set(data)
    count = len(data)
    if hasattr(data, "column"):
        return data.column(name)
    chunks = [records.records(data, range(start, min(start + 1024, count))) for start in range(0, count, 1024)]
    return records.column([records.field(record, name) for chunk in chunks for record in chunk], name=name)


def subset(data, indices) -> Subset:
    """Select the records of `data` at `indices` [m], for example one part of a split, in that order.

    Raises UserError for an index out of range and for empty `indices`.
    """
    data = data_set(data)
    count = len(data)
    indices = np.asarray(indices)
    if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu":
        raise UserError(
            f"subset indices are {indices.dtype}{list(indices.shape)}; expected a 1-D array of at least 1 integer."
        )
    if indices.min() < 0 or indices.max() >= count:
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise UserError(f"a subset selects record {wrong} of a data set of {count}; expected 0 to {count - 1}.")
    return Subset(data, indices.astype(np.int64))


def mapped(data, fn: Callable) -> Mapped:
    """Apply `fn(record) -> record` to each record of `data` when it is read.

    `fn` must be pure; for random augmentation, use the `augment` of `batches`. It receives a copy that it may modify.
    """
    data = data_set(data)
    return Mapped(data, fn, class_names(data))


def labelled(data, name: str, *, classes=None) -> Mapped:
    """Number the strings of the field `name` as the i32 field "label", and name the classes.

    `classes` has the names in the order of their numbers, by default all strings of the data set in sorted order. Give
    the classes of the training set for every other set. Other fields stay as they are.
    Raises UserError for an unknown field, values that are not strings, and strings that `classes` does not contain.
    """
    data = data_set(data)
    _, classes = number_classes(column(data, name), classes, what=f"the field {name!r}")
    numbers = {value: np.int32(number) for number, value in enumerate(classes)}

    def with_number(record):
        return {**{key: value for key, value in record.items() if key != name}, "label": numbers[str(record[name])]}

    return Mapped(data, with_number, classes)


def number_classes(values, classes=None, *, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the class number of each string, i32 [n], and the names of the classes; `classes` as in `labelled`."""
    if not all(isinstance(value, str) and value for value in values):
        raise UserError(f"{what} must have strings, none of them empty.")
    classes = tuple(sorted(set(values))) if classes is None else tuple(map(str, classes))
    numbers = {name: number for number, name in enumerate(classes)}
    for i, value in enumerate(values):
        if value not in numbers:
            raise unknown(f"class of record {i} in {what}", value, classes)
    return np.array([numbers[value] for value in values], np.int32), classes


def class_names(data) -> tuple[str, ...] | None:
    """Return the names of the classes that the field `label` numbers, or None if the data set does not name them."""
    features = getattr(data, "features", None)  # of Hugging Face
    named = features.get("label") if isinstance(features, Mapping) else None
    names = getattr(data, "classes", None) or getattr(named, "names", None)
    return None if names is None else tuple(map(str, names))


def field_names(data) -> list[str]:
    """Return the names of the fields of a data set, as in its first record."""
    data = data_set(data)
    return list(data.columns if isinstance(data, Arrays) else records.records(data, [0])[0])


def in_memory(data) -> Arrays:
    """Read all records of `data` into memory as arrays. For data that fits in memory, this makes batches fastest.

    The decoded columns of a TFDS data set are cached next to its records and reused the next time.
    Raises UserError for empty data and for records that do not stack.
    """
    data = data_set(data)
    count = len(data)
    file = data.kept_file() if hasattr(data, "kept_file") else None
    columns = decoded_cache.read(file) if file else None
    if columns is None:
        read = data.read_columns if hasattr(data, "read_columns") else lambda indices: records.columns(data, indices)
        chunks = [read(np.arange(i, min(i + 1024, count))) for i in range(0, count, 1024)]
        columns = {name: _joined(name, [chunk[name] for chunk in chunks]) for name in chunks[0]}
        if file:
            decoded_cache.write(file, columns)
    return Arrays(columns, class_names(data))


def padded(values, *, length: int | None = None, fill: float = np.nan) -> np.ndarray:
    """Stack arrays [length of each, ...] into one, [n, length, ...], filled up with `fill` at the end; f32.

    `length` is by default that of the longest. Raises UserError for an array that is longer, and for other axes that
    differ.
    """
    values = [np.asarray(value, np.float32) for value in values]
    length = max(map(len, values)) if length is None else length
    stacked = np.full((len(values), length, *values[0].shape[1:]), fill, np.float32)
    for i, value in enumerate(values):
        if value.shape[1:] != values[0].shape[1:]:
            raise UserError(
                f"array {i} is {list(value.shape)}; array 0 is {list(values[0].shape)}. Only the first axis may differ."
            )
        if len(value) > length:
            raise UserError(f"array {i} has {len(value)} entries; expected at most {length}.")
        stacked[i, : len(value)] = value
    return stacked


def _joined(name, parts):
    for chunk, part in enumerate(parts):
        if part.shape[1:] != parts[0].shape[1:]:
            raise UserError(
                f"field {name!r} has the shape {list(part.shape[1:])} around record {chunk * 1024} and "
                f"{list(parts[0].shape[1:])} in record 0; resize or pad with mapped(data, fn)."
            )
    return np.concatenate(parts)


def _as_column(name, values):
    if isinstance(values, np.ndarray) and values.dtype != object:
        if not values.ndim:
            raise UserError(f"the column {name!r} is the single value {values!r}; expected one row per record.")
        return values
    if isinstance(values, list | tuple | np.ndarray):
        values = list(values)
        ragged = values and not isinstance(values[0], str | bytes) and len({np.shape(v) for v in values}) > 1
        if ragged:
            return records.objects([np.asarray(v) for v in values])
        return records.column(values, name=name) if values else np.empty(0)
    # For example a column of a table library, or an array of another framework.
    try:
        return np.asarray(values) if np.ndim(values) else _as_column(name, np.asarray(values))
    except (TypeError, ValueError) as error:
        raise UserError(f"the column {name!r} is a {type(values).__name__}; expected an array or a list.") from error
