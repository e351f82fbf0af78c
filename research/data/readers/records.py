"""Reading records: many at once, by the fastest way that a data set has, and as one array a field."""

from collections.abc import Mapping

import numpy as np

from research.errors import UserError, unknown


def records(data, indices) -> list[dict]:
    """The records at `indices` (integers [n]) as a list of n dicts; strings and ragged fields included."""
    indices = [int(i) for i in indices]
    if hasattr(data, "__getitems__"):
        return list(data.__getitems__(indices))
    if hasattr(data, "take"):
        fields = _taken(data, np.asarray(indices, np.int64))
        return [{name: column[i] for name, column in fields.items()} for i in range(len(indices))]
    return [data[i] for i in indices]


def columns(data, indices) -> dict[str, np.ndarray]:
    """The same records as one array a field, [n, ...]; a field of strings is an object array."""
    if hasattr(data, "take"):
        return _taken(data, np.asarray(indices, np.int64))
    return stack(records(data, indices), indices)


def stack(rows: list, indices) -> dict[str, np.ndarray]:
    """Dicts -> {field: [n, ...]}. `indices` only name the records in errors.

    Raises UserError where a record is not a dict, lacks a field of the others, or has another shape.
    """
    for row, index in zip(rows, indices, strict=True):
        if not isinstance(row, Mapping):
            raise UserError(
                f"record {index} is a {type(row).__name__}; expected a dict of arrays, numbers and strings."
            )
        if row.keys() != rows[0].keys():
            raise UserError(f"record {index} has the fields {sorted(row)}, record {indices[0]} {sorted(rows[0])}.")
    return {name: column([row[name] for row in rows], name=name, indices=indices) for name in rows[0]}


def column(values: list, *, name: str, indices=None) -> np.ndarray:
    """One field of n records as an array [n, ...]; strings as objects, since numpy would pad them to the longest.

    Raises UserError where the shapes differ or a value is neither a number, an array nor a string.
    """
    if isinstance(values[0], str | bytes | None):
        return objects(values)
    arrays = [np.asarray(value) for value in values]
    for i, array in enumerate(arrays):
        index = i if indices is None else indices[i]
        if array.dtype.kind in "SU":
            return objects(values)
        if array.dtype.kind == "O":
            raise UserError(
                f"field {name!r} of record {index} is a {type(values[i]).__name__}; expected a number, an array or a "
                "string. Turn it into arrays with mapped(data, fn)."
            )
        if array.shape != arrays[0].shape:
            first = 0 if indices is None else indices[0]
            raise UserError(
                f"field {name!r} has the shape {list(array.shape)} in record {index} and {list(arrays[0].shape)} in "
                f"record {first}; records of one batch must have one shape. Crop, resize or pad them with "
                "mapped(data, fn) or augment=."
            )
    return np.stack(arrays)


def field(record: Mapping, name: str):
    """`record[name]`. Raises UserError with the nearest name if the record has no such field."""
    if name not in record:
        raise unknown("field", name, record)
    return record[name]


def numbers(fields: Mapping) -> dict[str, np.ndarray]:
    """The fields that a device can hold: all but strings, times and other objects.

    Raises UserError where none is left, or where a field holds arrays of different shapes.
    """
    # An object array may hold arrays of one shape, as where a field of ragged arrays was cropped.
    whole = {
        name: column(list(values), name=name) if values.dtype == object and len(values) else values
        for name, values in fields.items()
    }
    kept = {name: values for name, values in whole.items() if values.dtype.kind not in "OSUMm"}
    if not kept:
        raise UserError(f"the records have no field of numbers; their fields are {sorted(fields)}.")
    return kept


def objects(values) -> np.ndarray:
    """Any n Python objects as an object array [n], never unpacked into more axes."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def own(record: Mapping) -> dict:
    """A copy that a function may write into without changing the data set."""
    return {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in record.items()}


def size_of(data, *, what="the data set") -> int:
    """`len(data)`; raises UserError where it has none or is empty."""
    try:
        count = len(data)
    except TypeError:
        raise UserError(
            f"{what} is a {type(data).__name__} without len() and [i]; write a stream once with "
            "prepare(stream, out=folder) and read it with indexed(folder)."
        ) from None
    if not count:
        raise UserError(f"{what} is empty.")
    return count


def _taken(data, indices):
    fields = data.take(indices)
    if not isinstance(fields, Mapping) or any(len(values) != len(indices) for values in fields.values()):
        raise UserError(
            f"{type(data).__name__}.take(indices) must give a dict of arrays with one row an index; where `take` means "
            "something else, wrap the data set: mapped(data, dict)."
        )
    return {name: np.asarray(values) for name, values in fields.items()}
