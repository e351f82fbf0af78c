"""The parts of a split as columns with one schema, and as matrices for tests of all columns together."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from research.data import schema as schemas
from research.data.preparation import origin_of
from research.data.readers import cells
from research.data.readers.arrays import Origin, data_set, in_memory, of_columns, subset
from research.data.readers.table_files import read_frame
from research.diagnose.leaks import lenient
from research.errors import UserError, format_names, nearest, unknown

MOST = 20_000  # records of a part that are read if reading is slow, evenly spaced
VECTOR = 200  # a vector with more entries is no set of columns
FREQUENT, BUCKETS, PROJECTIONS = 10, 16, 32  # columns of the matrix for a category, for a text or for an array


class Part(NamedTuple):
    """A part of a split.

    columns: raw columns [n] (`research.data.readers.cells`)
    arrays: fields with more axes [n, ...]: images, tokens and long vectors
    coded: the columns as numbers, f64 [n], NaN if missing; without text and identifiers
    whole: whether all records were read
    origin: the rows of the table from which the records come, or None
    """

    name: str
    columns: Mapping[str, np.ndarray]
    arrays: Mapping[str, np.ndarray]
    coded: Mapping[str, np.ndarray]
    whole: bool = True
    origin: Origin | None = None

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(next(iter({**self.columns, **self.arrays}.values())))

    def take(self, rows) -> "Part":
        """Return some rows of the part."""
        taken = ({name: values[rows] for name, values in fields.items()} for fields in self[1:4])
        return Part(self.name, *taken, self.whole, self.origin and self.origin._replace(rows=self.origin.rows[rows]))


class Parts(NamedTuple):
    """The parts of a split, the training part first, with the schema of their columns. `target` may be None."""

    train: Part
    others: tuple[Part, ...]
    schema: schemas.Schema
    target: str | None

    @property
    def all(self) -> tuple[Part, ...]:
        """All parts, the training part first."""
        return self.train, *self.others

    def names(self, *kinds: str, without=()) -> list[str]:
        """Return the names of the columns of some kinds."""
        return [name for name, column in self.schema.items() if column.kind in kinds and name not in without]


def read_parts(parts: Mapping[str, Any], *, target: str | None = None) -> Parts:
    """Read the parts of a split, {name: data set}, the training part first.

    A part is a data set, a table of pandas, Polars or Arrow, or a dict of columns. Of records that a preparation made,
    the rows of its table are read. A field [n, F] of up to 200 numbers becomes the columns "field[0]", ... The schema
    is that of the table of the training part, or inferred. The target is by default that of the table, or the field
    "label" or "target".

    Raises UserError for fewer than two parts, an unknown target, and parts with different columns.
    """
    if not isinstance(parts, Mapping) or len(parts) < 2:
        given = f"{len(parts)} of them" if isinstance(parts, Mapping) else type(parts).__name__
        raise UserError(f'the parts are {given}; expected at least two by name, such as {{"train": ..., "test": ...}}.')
    read = {name: _fields(name, data) for name, data in parts.items()}
    first, kinds = next(iter(read.values())), {}
    if target is not None and target not in first.columns:
        raise unknown("target column", target, first.columns)
    target = target or first.target or next((name for name in ("label", "target") if name in first.columns), None)
    for name, found in read.items():
        for field in {**first.columns, **first.arrays}:
            if field not in found.columns and field not in found.arrays and field != target:
                raise UserError(
                    f"the part {name!r} lacks the column {field!r} of {next(iter(parts))!r}."
                    f"{nearest(field, found.columns)} It has: {format_names([*found.columns, *found.arrays], 20)}."
                )
        # In the union of parts that share rows, identifiers are not distinct.
        unknown_kinds = {n: x for n, x in found.columns.items() if n in first.columns and n not in first.kinds}
        own = schemas.infer(unknown_kinds, target=target)
        kinds |= {n: column.kind for n, column in own.items() if column.kind == "identifier"}
    columns = {n: _joined([found.columns[n] for found in read.values() if n in found.columns]) for n in first.columns}
    if target == "label" and columns[target].dtype.kind == "i":
        kinds[target] = "category"
    schema = schemas.infer(columns, stated={**kinds, **first.kinds}, target=target)
    known = lenient(schema, [name for name, column in schema.items() if column.kind not in ("text", "identifier")])
    made = []
    for name, found in read.items():
        own = {n: found.columns[n] for n in schema if n in found.columns}
        coded, _ = schemas.code({n: column for n, column in known.items() if n in own}, own)
        arrays = {n: x for n, x in found.arrays.items() if n in first.arrays}
        made.append(Part(name, own, arrays, coded, found.whole, found.origin))
    return Parts(made[0], tuple(made[1:]), schema, target)


class _Read(NamedTuple):
    columns: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]
    kinds: dict[str, schemas.Column]
    target: str | None
    whole: bool
    origin: Origin | None


def _fields(name, data) -> _Read:
    origin = origin_of(data)
    if origin:
        table = origin.table
        kinds = {n: schemas.Column(c.kind, form=c.form, time=c.time) for n, c in table.schema.items()}
        columns = {n: values[origin.rows] for n, values in table.columns.items()}
        return _Read(columns, {}, kinds, table.target, True, origin)
    data = data_set(of_columns(data) if isinstance(data, Mapping) else data, what=f"the part {name!r}")
    whole = hasattr(data, "take_columns") or len(data) <= MOST
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), MOST)).astype(np.int64))
    fields, columns, arrays = in_memory(data if whole else subset(data, rows)).columns, {}, {}
    for field, values in fields.items():
        if values.ndim == 1:
            columns[field] = values
        elif values.ndim == 2 and values.shape[1] == 1:
            columns[field] = values[:, 0]
        elif values.ndim == 2 and values.shape[1] <= VECTOR and values.dtype.kind in "fub":
            columns |= {f"{field}[{i}]": values[:, i] for i in range(values.shape[1])}
        else:
            arrays[field] = values
    columns = read_frame(columns, what=f"the part {name!r}") if columns else {}
    return _Read(columns, arrays, {}, None, whole, None)


def _joined(columns):
    kinds = {values.dtype.kind for values in columns}
    if "O" in kinds and len(kinds) > 1:
        columns = [cells.strings(values) for values in columns]
    return np.concatenate(columns)


def sampled(part: Part, most: int, *, seed: int, group: np.ndarray | None = None) -> Part:
    """Return up to `most` random rows of a part, with `group` [n] only one row per group."""
    rows = np.random.default_rng(seed).permutation(part.size)
    if group is not None:
        rows = rows[np.unique(group[rows], return_index=True)[1]]
        rows = np.random.default_rng(seed).permutation(rows)
    return part.take(np.sort(rows[:most]))


def row_limit(most: int, columns: int) -> int:
    """Return the number of rows that checks of `columns` columns may use: `most`, or fewer if they have 10 M values."""
    return min(most, max(500, 10_000_000 // max(1, columns)))


def matrices(parts: Parts, chosen: list[Part], *, names: list[str], contrast: bool = True) -> list[np.ndarray]:
    """Return rows as f32 matrices [n, features] in which distances have a sense, one per chosen part.

    A number becomes its rank in the training part, scaled to a standard deviation of 1, and a flag if it is missing. A
    category becomes the 10 most frequent ones, one-hot, so that two categories have a distance of 1. A text becomes 16
    counts of hashed words, and a row of tokens 16 counts of tokens. An image is projected on 32 random directions;
    without `contrast`, it is first normalised by its own mean and contrast.
    """
    blocks = [[np.zeros((part.size, 0))] for part in chosen]
    for name in names:
        train, kind = parts.train.coded.get(name), parts.schema[name].kind
        for side, part in zip(blocks, chosen, strict=True):
            if kind == "text":
                side.append(_word_counts(part.columns[name]))
            elif kind == "category":
                values, counts = np.unique(train, return_counts=True)
                frequent = values[np.argsort(-counts, kind="stable")[:FREQUENT]]
                same = part.coded[name][:, None] == frequent
                same |= np.isnan(part.coded[name])[:, None] & np.isnan(frequent)
                side.append(same / np.sqrt(2))
            else:
                known, values = np.sort(train[~np.isnan(train)]), part.coded[name]
                ends = [np.searchsorted(known, values, side=end) for end in ("left", "right")]
                ranks = np.where(np.isnan(values), 0.5, sum(ends) / 2 / max(1, len(known))) * np.sqrt(12)
                side.append(np.stack([ranks, np.isnan(values)], 1) if np.isnan(train).any() else ranks[:, None])
    for name, values in parts.train.arrays.items():
        for side, part in zip(blocks, chosen, strict=True):
            side.append(_projected(part.arrays[name], values, contrast))
    return [np.concatenate(side, 1).astype(np.float32) for side in blocks]


def _word_counts(texts):
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=BUCKETS, alternate_sign=False).transform(cells.strings(texts)).toarray()


def _projected(values, train, contrast):
    if values.ndim == 2 and values.dtype.kind in "iu":  # tokens: their numbers have no order
        return np.stack([(values % BUCKETS == bucket).mean(1) for bucket in range(BUCKETS)], 1)
    x, of_train = (np.asarray(side, np.float32).reshape(len(side), -1) for side in (values, train))
    if values.ndim > 2 and not contrast:
        x = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)
    else:
        x = (x - of_train.mean()) / (of_train.std() + 1e-6)
    project = np.random.default_rng(0).normal(size=(x.shape[1], PROJECTIONS)).astype(np.float32)
    return x @ project / np.sqrt(x.shape[1])
