"""The preparation of a run that is opened again: `fit` returns it, and a table whose file is gone has its schema.

A run is opened by running the source of its experiment once more. What was fitted in training is not fitted a second
time, so a run folder predicts with the numbers that it was trained with, also on another machine without the data.
"""

import contextlib
import contextvars
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from research.data.readers.records import objects


@dataclasses.dataclass
class Reopened:
    """The Preparation of a run, or None, and the tables that could not be read while its experiment was rebuilt."""

    preparation: Any
    absent: list[str] = dataclasses.field(default_factory=list)


stored: contextvars.ContextVar[Reopened | None] = contextvars.ContextVar("stored", default=None)


@contextlib.contextmanager
def reopening(preparation):
    """Let `fit` return `preparation`, and `table` do without files that are gone, within the block. Yields a Reopened.

    With None, nothing changes.
    """
    reopened = Reopened(preparation)
    token = stored.set(reopened if preparation is not None else None)
    try:
        yield reopened
    finally:
        stored.reset(token)


def is_absent(source, query) -> bool:
    """Return whether a table that could not be read is one that is not there, rather than a damaged one."""
    if query is not None or "://" in str(source):
        return True
    return isinstance(source, str | Path) and not Path(source).expanduser().exists()


def absent_columns(preparation) -> dict[str, np.ndarray]:
    """Return raw columns with missing values only, except for a target that is a category: its classes in turn."""
    count, columns = preparation.rows, {}
    for name, column in preparation.schema.items():
        if column.kind in ("number", "integer"):
            columns[name] = np.full(count, np.nan)
        elif column.kind == "date":
            columns[name] = np.full(count, "NaT", "datetime64[us]")
        else:
            columns[name] = objects([""] * count)
        if name == preparation.target and column.categories:
            columns[name] = objects([column.categories[i % len(column.categories)] for i in range(count)])
    return columns
