"""Open the records of a prediction, and write predictions to a file.

A row per record has the strings that identify the record, and the names of the classes.
"""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from research.data.readers.arrays import column
from research.data.readers.open import open_path
from research.data.readers.records import records
from research.errors import UserError, nearest
from research.files import atomic_write, file_errors, to_json

SUFFIXES = (".jsonl", ".csv")


def check_suffix(path) -> Path:
    """Return the path of an output file. Raises UserError unless it ends in .jsonl or .csv."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {path}; expected a file that ends in {' or '.join(SUFFIXES)}.")
    return path


def open_data(ex, path):
    """Open the records at a path: prepared, or images of the size and channels of the first evaluation set with any."""
    if not Path(path).expanduser().exists():
        raise UserError(
            f"{path!r} is neither an evaluation set of the run nor an existing path. Evaluation sets: "
            f"{', '.join(ex.evals)}.{nearest(path, [*ex.evals, *os.listdir()])}"
        )
    if ex.preparation:
        return ex.preparation.read(path)
    firsts = (ev.source.data[0] for ev in ex.evals.values() if ev.source.data is not None)
    shapes = [np.shape(first["image"]) for first in firsts if np.ndim(first.get("image")) == 3]
    size, channels = (shapes[0][:2], shapes[0][2]) if shapes else (None, 3)
    return open_path(path, size=size, channels=channels)


def identifiers(data) -> dict[str, list]:
    """Return the fields that identify a record: its strings, such as `path`, and a field `id`.

    Returns {} if `data` is None, for evaluations without a data set.
    """
    if data is None:
        return {}
    first = records(data, [0])[0]
    names = [name for name, value in first.items() if name == "id" or isinstance(value, str | bytes)]
    text = lambda value: value.decode(errors="replace") if isinstance(value, bytes) else value
    return {name: [text(value) for value in column(data, name).tolist()] for name in names}


def write_predictions(path, rows: Mapping[str, np.ndarray], *, ids: Mapping[str, list], classes=None) -> None:
    """Write predictions {name: [n, ...]} as JSON lines or, if the path ends in .csv, as a table.

    Every row has its index in the data set, the values of `ids`, and the predictions. A name of `ids` that a prediction
    has too gets the prefix `record_`. `classes` adds the name of an integer `prediction` as `class`. In a table, each
    entry of an array is a column: `probabilities_setosa` if it has an entry per class, otherwise `probabilities_0`.
    """
    columns = {f"record_{name}" if name in rows else name: values for name, values in ids.items()}
    # Traced dicts are sorted by name; the prediction comes first.
    for name, values in sorted(rows.items(), key=lambda item: item[0] != "prediction"):
        columns[name] = values.tolist()
        if classes and name == "prediction" and values.dtype.kind in "iu" and values.ndim == 1:
            columns["class"] = [classes[i] if 0 <= i < len(classes) else None for i in columns[name]]
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            if path.suffix.lower() == ".csv":
                columns = _flat(columns, classes)
                table = csv.writer(file)
                table.writerow(["index", *columns])
                table.writerows(_indexed(columns))
            else:
                file.writelines(
                    to_json(dict(zip(["index", *columns], row, strict=True)), ensure_ascii=False) + "\n"
                    for row in _indexed(columns)
                )


def _indexed(columns):
    return ((index, *row) for index, row in enumerate(zip(*columns.values(), strict=True)))


def _flat(columns, classes):
    flat = {}
    for name, values in columns.items():
        array = np.asarray(values, object) if not values or not isinstance(values[0], list) else np.asarray(values)
        if array.ndim == 1:
            flat[name] = values
            continue
        entries = array.reshape(len(array), -1)
        of_classes = classes and array.ndim == 2 and entries.shape[1] == len(classes)
        flat |= {f"{name}_{classes[i] if of_classes else i}": entries[:, i].tolist() for i in range(entries.shape[1])}
    return flat
