"""Summaries of the columns of a table, and their distributions in each class of the target."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from research.data import schema as schemas
from research.data.readers.cells import present, strings
from research.data.readers.table import Table
from research.html.markup import shortened

BINS = 30
MOST_GROUPS = 6  # as many as there are colours
MOST_VALUES = 10
QUANTILES = (0.005, 0.25, 0.5, 0.75, 0.995)
RANGES = np.array([1.5, 3.0])  # interquartile ranges beyond the quartiles: outside, and far out (Tukey 1977)


class Numbers(NamedTuple):
    """Statistics of the finite values of a column; dates are days since 1970-01-01.

    deviation: the sample standard deviation
    skewness: the third standardised moment
    low ... high: minimum, quartiles and maximum
    outliers, far: values more than 1.5, and more than 3, interquartile ranges beyond the quartiles
    """

    mean: float
    deviation: float
    skewness: float
    low: float
    lower_quartile: float
    median: float
    upper_quartile: float
    high: float
    outliers: int
    far: int


class Histogram(NamedTuple):
    """Counts [groups, bins] between `edges` [bins + 1], in each group of rows; `beyond` values lie outside."""

    edges: np.ndarray
    counts: np.ndarray
    beyond: int


class Frequencies(NamedTuple):
    """The most frequent values of a column and their counts [groups, values]; `beyond` rows have another value."""

    values: tuple[str, ...]
    counts: np.ndarray
    beyond: int


class Summary(NamedTuple):
    """A column: its kind, its number of missing, distinct and infinite values, and its distribution.

    `numbers` is None for categories, text and identifiers; `distribution` is None without a known value.
    """

    kind: str
    rows: int
    missing: int
    distinct: int
    infinite: int
    numbers: Numbers | None
    distribution: Histogram | Frequencies | None

    @property
    def constant(self) -> bool:
        """Whether all rows have the same value."""
        return self.distinct == 1 and not self.missing + self.infinite


class Groups(NamedTuple):
    """The groups of rows that distributions are compared for: [n] group numbers, -1 without one, and their names."""

    names: tuple[str, ...]
    of_row: np.ndarray


def coded(table: Table) -> dict[str, np.ndarray]:
    """Return the numbers, dates and categories of a table as f64 [n]; NaN is missing, infinite or unreadable."""
    schema = {name: column._replace(otherwise="missing") for name, column in table.schema.items()}
    return schemas.code(schema, table.columns)[0]


def groups_of(table: Table, codes: Mapping[str, np.ndarray]) -> Groups:
    """Return the classes of the target, or the thirds of a target that is a number; otherwise one group.

    With more than six classes, they are the five most frequent and "other".
    """
    if table.target is None:
        return Groups(("all rows",), np.zeros(len(table), np.int64))
    values, column = codes[table.target], table.schema[table.target]
    known = np.isfinite(values)
    if column.kind != "category":
        cuts = np.unique(np.quantile(values[known], (1 / 3, 2 / 3))) if known.any() else np.zeros(0)
        cuts = cuts[cuts < values[known].max()] if len(cuts) else cuts
        of_row = np.where(known, np.searchsorted(cuts, values), -1)
        ends = [f"{cut:.4g}" for cut in cuts]
        if not ends:
            return Groups((table.target,), of_row)
        middle = [f"{a} to {b}" for a, b in zip(ends, ends[1:], strict=False)]
        return Groups((f"{table.target} to {ends[0]}", *middle, f"above {ends[-1]}"), of_row)
    counts = np.bincount(values[known].astype(np.int64), minlength=len(column.categories))
    order = np.argsort(-counts, kind="stable")
    most = MOST_GROUPS if (counts > 0).sum() <= MOST_GROUPS else MOST_GROUPS - 1
    kept = np.sort(order[:most][counts[order[:most]] > 0])
    place = np.full(len(counts), len(kept))
    place[kept] = np.arange(len(kept))
    of_row = np.full(len(values), -1)
    of_row[known] = place[values[known].astype(np.int64)]
    names = tuple(column.categories[i] for i in kept)
    return Groups((*names, "other") if (of_row == len(kept)).any() else names, of_row)


def summary(table: Table, name: str, codes: Mapping[str, np.ndarray], groups: Groups) -> Summary:
    """Return the summary of the column `name`; `codes` are those of `coded`."""
    raw, kind = table.columns[name], table.schema[name].kind
    known = present(raw)
    count = len(groups.names)
    if kind not in ("number", "integer", "date"):
        values, numbers = _distinct(strings(raw[known]))
        top = np.argsort(-np.bincount(numbers, minlength=len(values)), kind="stable")[:MOST_VALUES]
        place = np.full(len(values) + 1, -1)
        place[top] = np.arange(len(top))
        place = place[numbers]
        counts = _counts(groups.of_row[known], place, count, len(top))
        beyond = int((place < 0).sum())
        found = Frequencies(tuple(values[i] for i in top), counts, beyond) if len(top) else None
        return Summary(kind, len(raw), int((~known).sum()), len(values), 0, None, found)
    infinite = np.isinf(raw) if raw.dtype.kind == "f" else np.zeros(len(raw), bool)
    finite = np.isfinite(codes[name])
    x = codes[name][finite]
    missing = len(raw) - len(x) - int(infinite.sum())
    if not len(x):
        return Summary(kind, len(raw), missing, 0, int(infinite.sum()), None, None)
    ordered = np.sort(x)
    distinct = 1 + int((np.diff(ordered) > 0).sum())
    with np.errstate(all="ignore"):
        quantiles = np.quantile(ordered, QUANTILES)
    edges = _edges(ordered, quantiles, distinct, whole=kind != "number")
    place = np.searchsorted(edges, x, "right") - 1
    place[x == edges[-1]] = len(edges) - 2
    place[(place < 0) | (place >= len(edges) - 1)] = -1
    counts = _counts(groups.of_row[finite], place, count, len(edges) - 1)
    found = Histogram(edges, counts, int((place < 0).sum()))
    return Summary(kind, len(raw), missing, distinct, int(infinite.sum()), _numbers(ordered, quantiles), found)


def _distinct(text):
    """Return the different strings, and the number of each row's string."""
    import pyarrow as pa

    found = pa.array(text, pa.large_string()).dictionary_encode()
    return found.dictionary.to_pylist(), found.indices.to_numpy()


def _counts(group, place, groups, places):
    used = (group >= 0) & (place >= 0)
    return np.bincount(group[used] * places + place[used], minlength=groups * places).reshape(groups, places)


def _edges(ordered, quantiles, distinct, *, whole):
    """Return the edges of bins: equal parts of the range, of integers with as many values in each.

    If the range is more than three times that of the middle 99 %, the bins cover the latter only.
    """
    low, high = float(ordered[0]), float(ordered[-1])
    with np.errstate(all="ignore"):
        if 0 < quantiles[-1] - quantiles[0] < (high - low) / 3:
            low, high = float(quantiles[0]), float(quantiles[-1])
        if whole and high - low < 2**53:
            width = np.ceil((high - low + 1) / BINS)  # as many integers in each bin
            return np.floor(low) - 0.5 + width * np.arange(np.ceil((high - low + 1) / width) + 1)
        if not 0 < high - low < np.inf:
            low, high = low - 0.5, low + 0.5  # one value, or a range beyond the largest number
        edges = np.linspace(low, high, min(BINS, max(distinct, 2)) + 1)
    return edges if (np.diff(edges) > 0).all() else np.array([low, np.nextafter(high, np.inf)])


def _numbers(ordered, quantiles) -> Numbers:
    low, middle, high = quantiles[1:4]
    with np.errstate(all="ignore"):
        mean, deviation = ordered.mean(), ordered.std()
        skewness = (((ordered - mean) / deviation) ** 3).mean() if deviation > 0 else np.nan
        sample = deviation * np.sqrt(len(ordered) / (len(ordered) - 1)) if len(ordered) > 1 else np.nan
        below = np.searchsorted(ordered, low - RANGES * (high - low))
        above = np.searchsorted(ordered, high + RANGES * (high - low), "right")
    outside = below + len(ordered) - above
    return Numbers(*map(float, (mean, sample, skewness, ordered[0], low, middle, high, ordered[-1])), *outside.tolist())


def missing_map(table: Table, names, *, blocks: int = 120) -> np.ndarray:
    """Return the fraction of missing values in each block of successive rows, f64 [columns, blocks]."""
    starts = np.unique(np.linspace(0, len(table), min(blocks, len(table)), endpoint=False).astype(np.int64))
    sizes = np.diff([*starts, len(table)])
    absent = [np.add.reduceat((~present(table.columns[name])).astype(np.int64), starts) for name in names]
    return np.array(absent, np.float64).reshape(len(names), len(starts)) / sizes


def described(found: Summary) -> str:
    """Return the range or the most frequent values of a column as text."""
    if isinstance(found.distribution, Frequencies):
        shown = [shortened(" ".join(value.split()), 16) for value in found.distribution.values[:3]]
        more = found.distinct - len(shown)
        return ", ".join(shown) + (f" and {more:,} more" if more else "")
    if found.numbers is None:
        return "no value"
    low, high = (format_value(value, found.kind) for value in (found.numbers.low, found.numbers.high))
    return low if found.numbers.low == found.numbers.high else f"{low} to {high}"


def format_value(value: float, kind: str) -> str:
    """Return a number of a column as text; a date as a day."""
    if kind == "date" and np.isfinite(value):
        return str(np.datetime64(int(np.floor(value)), "D"))
    return f"{value:,.0f}" if kind == "integer" and abs(value) < 1e15 else f"{value:.4g}"
