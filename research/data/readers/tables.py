"""Tables in text files, CSV and JSON lines, as data sets in memory."""

import csv as csv_module
import json

import numpy as np

from research.data.readers import paths, records
from research.data.readers.arrays import Arrays, of_columns
from research.errors import UserError, unknown


def csv(path, *, label: str | None = None, delimiter: str = ",") -> Arrays:
    """A CSV file with a header, one field a column, kept by its name.

    Columns of whole numbers become i32 (i64 where they are larger), of numbers f32, others stay strings. An empty
    cell among numbers is NaN. The column named `label` becomes the field "label" of i32: strings are numbered in
    sorted order, and `classes` of the data set has their names.

    Raises UserError for a missing or empty file, rows of another length than the header, a column named twice, and a
    label column that is missing or has empty cells.
    """
    path = paths.file(path, what="CSV file")
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            reader = csv_module.reader(lines, delimiter=delimiter, strict=True)
            header = next(reader, [])
            rows = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(row)} cells; the header has {len(header)}: "
                        f"{', '.join(header)}."
                    )
                rows.append(row)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}.") from error
    except csv_module.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from error
    if not rows:
        raise UserError(f"{path} has no rows below its header.")
    for name in header:
        if header.count(name) > 1:
            raise UserError(f"{path} has the column {name!r} twice.")
    columns = {name: _typed(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}
    return _labelled(columns, label, path)


def jsonl(path, *, label: str | None = None) -> Arrays:
    """A file of JSON objects, one a line, all with the same fields: numbers, strings, or (nested) lists of numbers.

    Whole numbers become i32 (i64 where they are larger), other numbers f32; true and false are 1 and 0, null among
    numbers is NaN. Lists may differ in length from line to line. `label` as in `csv`.
    Raises UserError for a missing or empty file, a line that is not a JSON object, and fields or kinds that differ.
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
                    raise UserError(f"{path}, line {number}: a {type(row).__name__}; expected an object {{...}}.")
                if rows and row.keys() != rows[0].keys():
                    raise UserError(
                        f"{path}, line {number} has the fields {sorted(row)}, line {lines[0]} {sorted(rows[0])}."
                    )
                rows.append(row)
                lines.append(number)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number} is not JSON: {error}.") from error
    if not rows:
        raise UserError(f"{path} is empty.")
    columns = {name: _json_column([row[name] for row in rows], name, path, lines) for name in rows[0]}
    return _labelled(columns, label, path)


def _labelled(columns, label, path):
    if label is None:
        return of_columns(columns)
    if label not in columns:
        raise unknown(f"label column of {path}", label, columns)
    if label != "label" and "label" in columns:
        raise UserError(f"{path} has a column 'label' beside the label column {label!r}; rename one of them.")
    values = columns[label]
    rest = {name: column for name, column in columns.items() if name != label}
    if values.dtype.kind in "iu" and values.ndim == 1:
        return of_columns({**rest, "label": values.astype(np.int32)})
    if values.dtype != object or not all(isinstance(value, str) and value for value in values):
        raise UserError(f"the label column {label!r} of {path} must hold whole numbers or strings, none of them empty.")
    classes, numbers = np.unique(values.astype(str), return_inverse=True)
    return of_columns({**rest, "label": numbers.astype(np.int32)}, classes=classes.tolist())


def _typed(cells):
    """A column of text cells as i32 or i64, f32, or strings."""
    # "1_000" is a thousand for Python, but not for whoever wrote the table.
    if not any("_" in cell for cell in cells):
        for number in (int, lambda cell: float(cell) if cell.strip() else float("nan")):
            try:
                return _narrow(np.array([number(cell) for cell in cells]))
            except (ValueError, OverflowError):
                pass
    return records.objects(cells)


def _json_column(values, name, path, lines):
    if all(isinstance(value, str) for value in values):
        return records.objects(values)
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
    # An empty list is of floats for numpy; it says nothing about the field.
    ends = [end for array in arrays if array.size for end in (array.min(), array.max())]
    dtype = _narrow(np.array(ends)).dtype if ends else np.int32
    arrays = [array.astype(dtype) for array in arrays]
    alike = len({array.shape for array in arrays}) == 1
    return np.stack(arrays) if alike else records.objects(arrays)


def _without_null(value):
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    return float("nan") if value is None else value


def _narrow(array):
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind not in "bi":
        raise OverflowError("whole numbers beyond 64 bits")
    small = np.iinfo(np.int32)
    return array.astype(np.int32 if array.min() >= small.min and array.max() <= small.max else np.int64)
