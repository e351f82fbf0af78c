"""The training and evaluation records of an experiment as tables, or a sample of them."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from research.data.readers import records
from research.diagnose.case import Case
from research.errors import UserError
from research.metrics.probe import TRAIN


class Table(NamedTuple):
    """Records of one data set.

    `fields`: {name: [n, ...]}. `rows` [n]: their record numbers in a set of `total` records. `training`: whether it is
    the training set. `drawn`: the records come from batches of the source, so they may be augmented and repeated, and
    their record numbers are unknown.
    """

    name: str
    training: bool
    fields: Mapping[str, np.ndarray]
    rows: np.ndarray
    total: int
    drawn: bool

    @property
    def sampled(self) -> str:
        """How many records were read, as text; empty if all were."""
        return "" if len(self.rows) >= self.total else f" ({len(self.rows):,} of {self.total:,} records were read)"


def tables(case: Case, *, most: int = 20_000, seconds: float = 10) -> list[Table]:
    """Read the training set and the evaluation sets of an experiment, each data set once.

    Sets without the fields that the evaluation passes to the model are left out. Up to `most` evenly spaced records of
    each set are read, fewer if `seconds` run out. Without a data set, batches are drawn from the training source.
    """
    result, seen = [], []
    sets = [("train", True, case.experiment.source.data)]
    sets += [(name, False, ev.source.data) for name, ev in case.experiment.evals.items()]
    required = set(filter(None, case.question.inputs)) if case.question else set()
    for name, training, data in sets:
        if data is None and training:
            result.append(_drawn(case, name))
        if data is None or any(_same(data, other) for other in seen):
            continue
        seen.append(data)
        rows, fields = _read(data, most, seconds)
        # A probe is fitted on some records of its evaluation set and scored on the others.
        scored = fields["split"] != TRAIN if "split" in fields and not training else np.ones(len(rows), bool)
        fields = {field: column[scored] for field, column in fields.items()}
        if required <= set(fields):
            result.append(Table(name, training, fields, rows[scored], len(data) - int((~scored).sum()), False))
    return result


def flat(column) -> np.ndarray:
    """Flatten a field to a matrix, f32 [n, features]."""
    return np.asarray(column, np.float32).reshape(len(column), -1)


def _same(a, b) -> bool:
    return a is b or (getattr(a, "data", a) is getattr(b, "data", b) and hasattr(a, "indices")
                      and hasattr(b, "indices") and np.array_equal(a.indices, b.indices))  # fmt: skip


def _read(data, most, seconds):
    count = len(data)
    rows = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
    if len(rows) < count:
        rows = np.random.default_rng(0).permutation(rows)  # the time limit then leaves a fair sample
    parts, until = [], time.monotonic() + seconds
    for at in range(0, len(rows), 1024):
        parts.append(records.numbers(records.columns(data, rows[at : at + 1024])))
        if time.monotonic() > until:
            break
    fields = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return rows[: len(next(iter(fields.values())))], fields


def _drawn(case, name, batches: int = 8):
    source = case.experiment.source(case.built.seed)
    try:
        parts = [source(step) for step in range(batches)]
    except (UserError, IndexError):
        parts = [case.batch]
    fields = {k: np.concatenate([np.asarray(part[k]) for part in parts]) for k in parts[0]}
    count = len(next(iter(fields.values())))
    return Table(name, True, fields, np.arange(count), case.experiment.source.examples or count, True)
