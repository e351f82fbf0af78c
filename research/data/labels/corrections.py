"""Corrections of labels: a record of who changed what, and a view of a data set with the changed labels.

    data = corrected(digits(), "corrections.jsonl")     before it is split
    train, valid, test = (subset(data, rows) for rows in ...)

The file has one JSON object per line. The first describes the data set: its fingerprint, the field of the labels and
its classes. Every other line is a Correction, and is never changed or removed: a later line for the same record
continues from the class of the earlier one. A class is a name, or its number as text if the data set has no names.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.fingerprint import combine, data_changes, fingerprint, of_records
from research.data.readers import paths, records
from research.data.readers.arrays import Subset, class_names, column, data_set
from research.errors import UserError, unknown
from research.files import atomic_write, read_text, to_json

LABEL = "label"


class Correction(NamedTuple):
    """One change of a label: the number of the record, both classes, who changed it, when (ISO 8601, UTC) and why."""

    record: int
    old: str
    new: str
    annotator: str
    time: str
    reason: str


KEYS = ("record", "from", "to", "annotator", "time", "reason")  # of a Correction, in the file


class Corrections(NamedTuple):
    """The content of a file of corrections: the fingerprint and the class names of the data set, and the changes."""

    data: dict
    classes: tuple[str, ...]
    changes: tuple[Correction, ...]

    def current(self) -> dict[int, Correction]:
        """Return {record: its last Correction}."""
        return {change.record: change for change in self.changes}


@dataclasses.dataclass(frozen=True, eq=False)
class Corrected:
    """A data set with other labels for some records, {record: class number}; created by `corrected`."""

    data: Any
    labels: dict[int, np.integer]
    path: Path
    changes: tuple[Correction, ...]

    def __repr__(self):
        return f"Corrected({len(self.labels)} labels of {self.data!r})"

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.__getitems__([i])[0]

    def __getitems__(self, indices):
        found = zip(records.records(self.data, indices), indices, strict=True)
        return [{**row, LABEL: self.labels[int(i)]} if int(i) in self.labels else row for row, i in found]

    def column(self, name):
        """Return the column; the labels are a corrected copy."""
        values = column(self.data, name)
        return self._changed(values, np.arange(len(values))) if name == LABEL else values

    @property
    def take_columns(self):
        """Bulk reads, as those of the data set. If that has none, accessing this attribute raises AttributeError."""
        inner = self.data.take_columns

        def take(indices):
            fields = dict(inner(indices))
            return {**fields, LABEL: self._changed(fields[LABEL], indices)}

        return take

    @property
    def classes(self):
        """The class names of the data set."""
        return class_names(self.data)

    def content_fingerprint(self):
        """Return the fingerprint of the corrected records; of data that are sampled, with a hash of the changes."""
        if hasattr(self, "take_columns"):
            return of_records(self)
        base = fingerprint(self.data)
        changed = combine(sorted((row, int(label)) for row, label in self.labels.items()))
        fields = {**base["fields"], f"corrections of {LABEL}": changed}
        return {**base, "fields": fields, "unordered": combine([base["unordered"], changed])}

    def _changed(self, values, indices):
        values = np.array(values)
        for place in np.flatnonzero(np.isin(indices, list(self.labels))):
            values[place] = self.labels[int(indices[place])]
        return values


def corrected(data, path) -> Corrected:
    """Return a view of `data` with the corrections of a file, which `labels apply` writes. The data stay unchanged.

    `data` is the data set that was reviewed, before any `subset`. Its fingerprint, and thus that of a run, changes with
    the corrections. Raises UserError if the file belongs to other data, and for a class or a label that is not there.
    """
    data, path = data_set(data), paths.file(path, what="file of corrections")
    found = read_corrections(path)
    if changes := data_changes({"the data set": found.data}, {"the data set": fingerprint(data)}):
        raise UserError(
            f"{path} has corrections of other data: {' '.join(*changes.items())}. Correct the data set that was "
            "reviewed, before it is split: subset(corrected(data, path), rows)."
        )
    classes = class_names(data) or found.classes
    rows = sorted({change.record for change in found.changes})
    labels = {row: record[LABEL] for row, record in zip(rows, records.records(data, rows), strict=True)}
    kind = {row: np.asarray(label).dtype.type for row, label in labels.items()}
    for change in found.changes:
        row, known = change.record, class_name(labels[change.record], classes)
        if known != change.old:
            raise UserError(
                f"{path} changes record {row} from {change.old!r}, but its label is {known!r}; expected the labels "
                "that were reviewed, and all lines of the file in their order."
            )
        labels[row] = kind[row](class_number(change.new, classes, what=f"class of record {row} in {path}"))
    return Corrected(data, labels, path, found.changes)


def base_rows(data) -> tuple[Any, np.ndarray, Path | None]:
    """Return the data set below all subsets and corrections, the rows of it in `data`, and the file of corrections."""
    indices, path = np.arange(len(data)), None
    while isinstance(data, Subset | Corrected):
        if isinstance(data, Subset):
            indices = data.indices[indices]
        else:
            path = path or data.path
        data = data.data
    return data, indices, path


def class_name(label, classes: Sequence[str]) -> str:
    """Return the name of a class number, or the number as text if it is out of range."""
    return classes[int(label)] if 0 <= int(label) < len(classes) else str(int(label))


def class_number(name: str, classes: Sequence[str], *, what: str = "class") -> int:
    """Return the number of a class. Raises UserError for an unknown name, with the nearest one."""
    if name not in classes:
        raise unknown(what, name, classes)
    return list(classes).index(name)


def read_corrections(path) -> Corrections:
    """Read a file of corrections. Raises UserError with the line for a file that is damaged."""
    lines = read_text(path).splitlines()
    try:
        about = json.loads(lines[0]) if lines else None
        data, classes = about["data"], tuple(map(str, about["classes"]))
        data["records"], data["fields"], data["unordered"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path}, line 1 does not describe a data set; expected a file of `labels apply`.") from error
    changes = []
    for number, line in enumerate(lines[1:], 2):
        try:
            change = Correction(*(json.loads(line)[key] for key in KEYS))
            texts = all(isinstance(text, str) for text in change[1:])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is not a correction: {error!r}.") from error
        if not texts or isinstance(change.record, bool) or not isinstance(change.record, int):
            raise UserError(f"{path}, line {number}: expected the number of a record and texts; got {line[:200]}.")
        if not 0 <= change.record < data["records"]:
            raise UserError(f"{path}, line {number}: record {change.record} of {data['records']} records.")
        changes.append(change)
    return Corrections(data, classes, tuple(changes))


def append_corrections(path, new: Sequence[Correction], *, data: dict, classes: Sequence[str]):
    """Add corrections to a file, or create it; the lines that it has stay as they are.

    Raises UserError if the file belongs to other data, and if a correction does not continue from the current class.
    """
    path, old = Path(path), ""
    if path.exists():
        found, old = read_corrections(path), read_text(path)
        if changes := data_changes({"the data set": found.data}, {"the data set": data}):
            raise UserError(f"{path} has corrections of other data: {' '.join(*changes.items())}. Give another --file.")
        current = found.current()
        for change in new:
            if change.record in current and current[change.record].new != change.old:
                last = current[change.record]
                raise UserError(
                    f"record {change.record} was given as {change.old!r}, but {last.annotator} changed it to "
                    f"{last.new!r} at {last.time}. Review the corrected data set again."
                )
    else:
        old = to_json({"data": data, "field": LABEL, "classes": classes}) + "\n"
    text = "".join(to_json(dict(zip(KEYS, change, strict=True)), ensure_ascii=False) + "\n" for change in new)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part, open(part, "w", encoding="utf-8") as file:
        file.write(old if old.endswith("\n") else old + "\n")
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
