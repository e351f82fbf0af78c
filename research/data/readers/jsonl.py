"""Read JSON lines, whose fields may be lists, into memory."""

import json

import numpy as np

from research.data.readers import paths, records
from research.data.readers.arrays import Arrays, number_classes, of_columns
from research.errors import UserError, unknown


def jsonl(path, *, label: str | None = None, classes=None) -> Arrays:
    """Read a file of JSON objects, one per line, into memory; all lines need the same fields.

    Fields are numbers, strings, or (nested) lists of numbers. Integers become i32 (i64 if they need it), other numbers
    f32 (f64 if f32 would change an integer or overflow). true and false become 1 and 0; null among numbers is NaN.
    Lists may differ in length between lines. The field named `label` becomes "label", i32: strings are numbered in
    sorted order, or in the order of `classes`, and `classes` of the data set has the names. Flat objects with missing
    values are better read as a `table`.

    Raises UserError for a missing or empty file, a line that is not a JSON object, and fields or types that differ.
    """
    path = paths.file(path, what="JSON lines file")
    rows, lines = [], []
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UserError(f"{path}, line {number}: a {type(row).__name__}; expected a JSON object {{...}}.")
                if rows and row.keys() != rows[0].keys():
                    raise UserError(
                        f"{path}, line {number} has the fields {sorted(row)}; line {lines[0]} has {sorted(rows[0])}."
                    )
                rows.append(row)
                lines.append(number)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number} is not JSON: {error}.") from error
    if not rows:
        raise UserError(f"{path} is empty; expected at least one JSON object.")
    columns = {name: _json_column([row[name] for row in rows], name, path, lines) for name in rows[0]}
    return _labelled(columns, label, classes, path)


def _labelled(columns, label, classes, path):
    if label is None:
        return of_columns(columns)
    if label not in columns:
        raise unknown(f"label column of {path}", label, columns)
    if label != "label" and "label" in columns:
        raise UserError(f"{path} has a column 'label' besides the label column {label!r}; rename one of them.")
    values = columns[label]
    rest = {name: column for name, column in columns.items() if name != label}
    if values.dtype.kind in "iu" and values.ndim == 1:
        if values.dtype != np.int32:
            raise UserError(f"the label column {label!r} of {path} has {values.max()}; expected integers of 32 bits.")
        return of_columns({**rest, "label": values}, classes=classes)
    if values.dtype != object:
        raise UserError(f"the label column {label!r} of {path} is {values.dtype}; expected integers or strings.")
    numbers, classes = number_classes(values, classes, what=f"the label column {label!r} of {path}")
    return of_columns({**rest, "label": numbers}, classes=classes)


def _json_column(values, name, path, lines):
    strings = [isinstance(value, str) for value in values]
    if all(strings):
        return records.objects(values)
    if strings[0]:
        at = strings.index(False)
        raise UserError(
            f"{path}, line {lines[at]}: field {name!r} is {json.dumps(values[at])[:60]}; expected a string, as in line "
            f"{lines[0]}."
        )
    arrays = []
    for value, line in zip(values, lines, strict=True):
        try:
            array = np.array(_without_null(value))
        except ValueError:
            array = None
        if array is None or array.dtype.kind not in "biuf":
            raise UserError(
                f"{path}, line {line}: field {name!r} is {json.dumps(value)[:60]}; expected numbers or lists of "
                "numbers in every line, or strings in every line."
            )
        arrays.append(array)
    # Trap: numpy makes an empty list float, thus empty lists do not take part in choosing the dtype.
    extremes = [value for array in arrays if array.size for value in (array.min(), array.max())]
    try:
        dtype = _narrow(np.array(extremes)).dtype if extremes else np.int32
        if dtype == np.float32 and any(array.size and _narrow(array).dtype == np.float64 for array in arrays):
            dtype = np.float64
    except OverflowError as error:
        raise UserError(f"{path}: field {name!r} has {error}; write them as strings.") from error
    arrays = [array.astype(dtype) for array in arrays]
    same_shape = len({array.shape for array in arrays}) == 1
    return np.stack(arrays) if same_shape else records.objects(arrays)


def _without_null(value):
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    return float("nan") if value is None else value


def _narrow(array):
    if array.dtype.kind == "f":
        return array if records.changed_by_f32(array).any() else array.astype(np.float32)
    if array.dtype.kind not in "bi":
        raise OverflowError("integers beyond 64 bits")
    int32 = np.iinfo(np.int32)
    return array.astype(np.int32 if array.min() >= int32.min and array.max() <= int32.max else np.int64)
