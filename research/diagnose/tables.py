"""The records behind an experiment, as tables: what it is trained on and what it is evaluated on, or a sample."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from research.data.readers import records
from research.diagnose.case import Case
from research.errors import UserError
from research.metrics.probe import TRAIN


class Table(NamedTuple):
    """`fields` {name: [n, ...]} of the records `rows` [n] of a set of `total` records; `training` or an evaluation.

    `drawn`: the records are batches as they were drawn, augmented and perhaps repeated; their numbers are unknown.
    """

    name: str
    training: bool
    fields: Mapping[str, np.ndarray]
    rows: np.ndarray
    total: int
    drawn: bool

    @property
    def sampled(self) -> str:
        """How much of the set was read, in words; nothing where it was all."""
        return "" if len(self.rows) >= self.total else f" ({len(self.rows):,} of {self.total:,} records were read)"


def tables(case: Case, *, most: int = 20_000, seconds: float = 10) -> list[Table]:
    """The training set and the evaluation sets that have the fields of the first evaluation's model, each once.

    Of each set `most` records are read, evenly chosen, or as many as `seconds` allow. A training source without a data
    set behind it is drawn from.
    """
    found, seen = [], []
    sets = [("train", True, case.experiment.source.data)]
    sets += [(name, False, ev.source.data) for name, ev in case.experiment.evals.items()]
    wanted = set(filter(None, case.question.inputs)) if case.question else set()
    for name, training, data in sets:
        if data is None and training:
            found.append(_drawn(case, name))
        if data is None or any(_same(data, other) for other in seen):
            continue
        seen.append(data)
        rows, fields = _read(data, most, seconds)
        # A probe is fitted to records of its own evaluation set, on which it is not judged.
        judged = fields["split"] != TRAIN if "split" in fields and not training else np.ones(len(rows), bool)
        fields = {field: column[judged] for field, column in fields.items()}
        if wanted <= set(fields):
            found.append(Table(name, training, fields, rows[judged], len(data) - int((~judged).sum()), False))
    return found


def flat(column) -> np.ndarray:
    """A field as a matrix of numbers: f32 [n, features]."""
    return np.asarray(column, np.float32).reshape(len(column), -1)


def _same(a, b) -> bool:
    return a is b or (getattr(a, "data", a) is getattr(b, "data", b) and hasattr(a, "indices")
                      and hasattr(b, "indices") and np.array_equal(a.indices, b.indices))  # fmt: skip


def _read(data, most, seconds):
    count = len(data)
    rows = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
    if len(rows) < count:
        rows = np.random.default_rng(0).permutation(rows)  # so that those that the time allows are a fair sample
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
