"""Read many records at once, with the fastest method of the data set, and stack them into one array per field."""

from collections.abc import Mapping

import numpy as np

from research.errors import UserError, unknown


def records(data, indices) -> list[dict]:
    """Return the records at `indices` (integers [n]) as a list of n dicts, including string and ragged fields."""
    indices = [int(i) for i in indices]
    if hasattr(data, "__getitems__"):
        return list(data.__getitems__(indices))
    if hasattr(data, "take_columns"):
        fields = _taken(data, np.asarray(indices, np.int64))
        return [{name: column[i] for name, column in fields.items()} for i in range(len(indices))]
    return [data[i] for i in indices]


def columns(data, indices) -> dict[str, np.ndarray]:
    """Return the records at `indices` as one array per field, [n, ...]; a field of strings is an object array."""
    if hasattr(data, "take_columns"):
        return _taken(data, np.asarray(indices, np.int64))
    return stack(records(data, indices), indices)


def stack(rows: list, indices) -> dict[str, np.ndarray]:
    """Stack dicts into {field: [n, ...]}. `indices` identify the records in error messages.

    Raises UserError if a record is not a dict, or if its fields or shapes differ from those of the first record.
    """
    rows = checked(rows, indices)
    return {name: column([row[name] for row in rows], name=name, indices=indices) for name in rows[0]}


def checked(rows: list, indices) -> list[Mapping]:
    """Return `rows`. Raises UserError unless all are dicts with the fields of the first."""
    for row, index in zip(rows, indices, strict=True):
        if not isinstance(row, Mapping):
            raise UserError(
                f"record {index} is a {type(row).__name__}; expected a dict of arrays, numbers and strings. Convert "
                'the records, for example mapped(data, lambda record: {"image": record[0], "label": record[1]}).'
            )
        if row.keys() != rows[0].keys():
            raise UserError(f"record {index} has the fields {sorted(row)}; record {indices[0]} has {sorted(rows[0])}.")
    return rows


def column(values: list, *, name: str, indices=None) -> np.ndarray:
    """Stack one field of n records into an array. Strings become objects, because numpy would pad them to the longest.

    Raises UserError if shapes differ, or if a value is not a number, an array or a string.
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
                "string. Convert it with mapped(data, fn)."
            )
        if array.shape != arrays[0].shape:
            first = 0 if indices is None else indices[0]
            raise UserError(
                f"field {name!r} has the shape {list(array.shape)} in record {index} and {list(arrays[0].shape)} in "
                f"record {first}; expected one shape in a batch. Crop, resize or pad the records with "
                "mapped(data, fn) or augment=."
            )
    return np.stack(arrays)


def field(record: Mapping, name: str):
    """Return `record[name]`. Raises UserError for an unknown field, with a suggestion."""
    if name not in record:
        raise unknown("field", name, record)
    return record[name]


def numbers(fields: Mapping) -> dict[str, np.ndarray]:
    """Return the fields that a device can hold; strings, times and other objects are dropped.

    Bytes are in the order of the machine. Numbers of 64 bits become 32 bits, which is what a device holds.
    Raises UserError if no field remains, if `label` is a field of strings, if a field contains arrays of different
    shapes, or if a number does not fit into 32 bits.
    """
    # An object array may contain arrays of one shape, for example after ragged arrays were cropped.
    stacked = {
        name: column(list(values), name=name) if values.dtype == object and len(values) else values
        for name, values in fields.items()
    }
    numeric = {name: _narrowed(name, v) for name, v in stacked.items() if v.dtype.kind not in "OSUMm"}
    if "label" in fields and "label" not in numeric:
        raise UserError(
            f"the field 'label' has strings, such as {stacked['label'][0]!r}; expected class numbers. Number them with "
            "labelled(data, 'label')."
        )
    if not numeric:
        raise UserError(f"the records have no field of numbers; expected at least one among {sorted(fields)}.")
    return numeric


def _narrowed(name, values):
    """Return `values` in 32 bits. An integer must keep its value, also as a float, and a finite number stays finite."""
    values = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    narrow = {"int64": np.int32, "uint64": np.uint32, "float64": np.float32}.get(values.dtype.name)
    if narrow is None:
        return values
    lost = changed_by_f32(values) if narrow is np.float32 else values.astype(narrow) != values
    if lost.any():
        raise UserError(
            f"the field {name!r} has {values[lost].flat[0]!r}, which is not a number of {np.dtype(narrow).name}. "
            "Subtract an offset, rescale the field or remove it: mapped(data, fn)."
        )
    return values.astype(narrow)


def changed_by_f32(values: np.ndarray) -> np.ndarray:
    """Return a mask of the floats that f32 would change beyond rounding: integers, and numbers that overflow."""
    with np.errstate(over="ignore"):
        narrowed = values.astype(np.float32)
    return np.isfinite(values) & (np.isinf(narrowed) | (narrowed != values) & (values == np.round(values)))


def objects(values) -> np.ndarray:
    """Return n Python objects as an object array [n]. Trap: np.array would unpack sequences into more axes."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def own(record):
    """Copy a record, so that a function may modify it without changing the data set."""
    copied = lambda value: np.array(value) if isinstance(value, np.ndarray) else value
    if isinstance(record, Mapping):
        return {name: copied(value) for name, value in record.items()}
    return tuple(map(copied, record)) if type(record) is tuple else copied(record)


def _taken(data, indices):
    fields = data.take_columns(indices)
    if not isinstance(fields, Mapping) or any(len(values) != len(indices) for values in fields.values()):
        raise UserError(
            f"{type(data).__name__}.take_columns(indices) must return a dict of arrays with one row per index."
        )
    return {name: np.asarray(values) for name, values in fields.items()}
