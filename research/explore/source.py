"""Open the table that a page is about: a file, a query, a prepared data set, or a table in memory."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from research.data.packaged import NAMES, PackagedSet, packaged_set
from research.data.preparation import table_rows
from research.data.readers.arrays import Subset, in_memory
from research.data.readers.prepare import is_path
from research.data.readers.table import Table, table
from research.data.readers.tfds import prepared, tfds_source
from research.errors import UserError, unknown


class Source(NamedTuple):
    """A table and its origin.

    name: the name for titles and files
    opening: the expression that `table` opened, as code, and the other `arguments` of `table`; None for a Table
    splits: {split: number of records} of a prepared data set, and `split`, the one that was opened
    facts: the known facts about a packaged data set
    path: the file, if there is one on this machine
    """

    name: str
    table: Table
    opening: str | None
    arguments: dict[str, Any]
    splits: dict[str, int]
    split: str | None = None
    facts: PackagedSet | None = None
    path: Path | None = None


def opened(data, *, target: str | None = None, split: str | None = None, **reading) -> Source:
    """Open `data`.

    data: a path, URL or frame that `table` reads; a Table, or a subset of one; or the name of a data set, which is
      prepared if necessary
    target: the column to predict
    split: of a named data set; by default "train", or the first
    reading: other arguments of `table`, such as `query` or `missing`

    Raises UserError as `table` and `tfds_source` do, and for arguments that do not apply to `data`.
    """
    reading = {name: value for name, value in reading.items() if value is not None}
    if isinstance(data, Table | Subset):
        return _of_table(data, target, split, reading)
    if isinstance(data, str) and "://" not in data and "query" not in reading and (data in NAMES or not is_path(data)):
        return _of_name(data, target, split, reading)
    if split is not None:
        raise UserError(f"split={split!r} is for the name of a data set; {_shown(data)} has no splits.")
    found = table(data, target=target, **reading)
    arguments = {"target": target, **reading}
    if not isinstance(data, str | os.PathLike):
        return Source("table", found, "frame", arguments, {})
    path = Path(data).expanduser() if "://" not in str(data) else None
    name = "query" if "query" in reading else re.split(r"[/\\]", _shown(data).rstrip("/"))[-1]
    return Source(name, found, repr(_shown(data)), arguments, {}, path=path if path and path.is_file() else None)


def _of_table(data, target, split, reading):
    found, rows = table_rows(data)
    if target not in (None, found.target):
        raise UserError(f"target={target!r}, but the table has the target {found.target!r}; state it in table(...).")
    if split is not None or reading:
        raise UserError(f"{', '.join([*reading, *['split'] * (split is not None)])}= does not apply to a table.")
    columns = {name: values[rows] for name, values in found.columns.items()}
    name = re.split(r"[/\\]", _shown(found.source))[-1] or "table"
    return Source(name, Table(columns, found.schema, found.target, found.source), None, {"target": found.target}, {})


def _of_name(name, target, split, reading):
    builder = prepared(name)
    splits = {one: info.num_examples for one, info in builder.info.splits.items()}
    split = split or ("train" if "train" in splits else next(iter(splits)))
    if split not in splits:
        raise unknown(f"split of {name}", split, splits)
    columns = in_memory(tfds_source(builder, split)).columns
    for field, values in columns.items():
        if values.ndim > 1:
            raise UserError(
                f"the field {field!r} of {name} has the shape {list(values.shape[1:])} in each record; expected a "
                "table, in which every field is one number or text."
            )
    found = table(columns, target=target, **reading)
    opening = f"in_memory(tfds_source({name!r}, {split!r})).columns"
    facts = packaged_set(name) if name in NAMES else None
    return Source(name, found, opening, {"target": target, **reading}, splits, split, facts)


def _shown(data) -> str:
    """Return a path or URL as text, without a password."""
    return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", str(data)) if isinstance(data, str | os.PathLike) else "a frame"
