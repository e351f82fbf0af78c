"""Explore a table: compute the statistics of its columns, their relations and the findings, and write the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.data.readers.cells import present
from research.diagnose.duplicates import Repeats, near_rows, repeated_rows
from research.diagnose.finding import Finding, format_findings
from research.diagnose.leaks import Leak, leaking_columns
from research.explore import advice
from research.explore.association import correlation_ratio, cramers_v, pearson, spearman
from research.explore.columns import Groups, Summary, coded, groups_of, missing_map, summary
from research.explore.findings import (
    alike_findings,
    column_findings,
    duplicate_findings,
    leak_findings,
    target_findings,
)
from research.explore.source import Source, opened
from research.explore.views import Views, sample, views

SAMPLE, SMALL = 100_000, 10_000  # rows for correlations; for ranks, and for the choice of columns
MOST_RELATED = 20  # columns of a matrix of associations
MOST_COMPARED = 200  # columns whose pairs are searched for strong correlations
MOST_CODES = 100  # categories of a column in Cramér's V; rarer ones are one category
MOST_MAPPED = 40  # columns of the map of missing values
MOST_NEAR = 5_000  # rows that are searched for near copies
MOST_TESTED = 200  # columns that are tested for leaks: identifiers, and those most associated with the target


class Association(NamedTuple):
    """A matrix of associations [names, names]; NaN for a column that is constant."""

    names: tuple[str, ...]
    values: np.ndarray


class Missing(NamedTuple):
    """The map of missing values: the fraction in each block of successive rows, [names, blocks].

    complete: the number of rows without a missing value
    cells: the fraction of missing cells of the table
    """

    names: tuple[str, ...]
    fractions: np.ndarray
    complete: int
    cells: float


class Duplicates(NamedTuple):
    """Rows that equal an earlier row, and near copies, pairs of rows among `searched` random ones."""

    repeats: Repeats
    near: list[tuple[int, int]]
    searched: int


class Exploration(NamedTuple):
    """The content of an exploration page, and its `path`.

    classes: {class: number of rows} of a target that is a category
    with_target: {column: association with the target}, 0 to 1: |Spearman|, Cramér's V or the correlation ratio
    findings: the problems, then the points worth a look
    code: lines of Python that prepare the table
    """

    source: Source
    summaries: Mapping[str, Summary]
    groups: Groups
    classes: Mapping[str, int]
    missing: Missing
    with_target: Mapping[str, float]
    pearson: Association
    spearman: Association
    cramers_v: Association
    duplicates: Duplicates
    leaks: tuple[Leak, ...]
    views: Views
    findings: tuple[Finding, ...]
    code: str
    path: Path | None = None

    def __repr__(self):
        return "\n".join(filter(None, [format_findings(self.findings), self.path and f"Page: {self.path}"]))


def explored(data, *, target: str | None = None, split: str | None = None, **reading) -> Exploration:
    """Return the statistics of a table; the arguments are those of `opened`.

    Summaries, distributions and missing values are of all rows; correlations are of SAMPLE random rows, ranks and views
    of fewer. Raises UserError as `opened` does.
    """
    source = opened(data, target=target, split=split, **reading)
    table, rng = source.table, np.random.default_rng(0)
    codes = coded(table)
    groups = groups_of(table, codes)
    summaries = {name: summary(table, name, codes, groups) for name in table.schema}
    rows = np.sort(rng.permutation(len(table))[:SAMPLE])
    few = np.sort(rng.permutation(rows)[:SMALL])
    small = {name: _joined(x[few], summaries[name]) for name, x in codes.items() if name in summaries}
    with_target = _with_target(small, summaries, table.target)
    order = sorted(small, key=lambda name: -np.nan_to_num(with_target.get(name, 0)))  # stable: the order of the table
    vary = [name for name in order if summaries[name].distinct > 1 and name != table.target]
    of_kind = lambda condition: [name for name in vary if condition(summaries[name])]
    numbers, categories = of_kind(lambda one: one.numbers), of_kind(lambda one: one.kind == "category")
    shown = {*numbers[:MOST_RELATED], *categories[:MOST_RELATED], table.target}
    shown = {name: summaries[name] for name in table.schema if name in shown}
    drawn = sample(table)
    duplicates, leaks, classes = _duplicates(table, drawn), _leaks(table, order), _classes(table, codes)
    compared = numbers[:MOST_COMPARED]
    found = [
        *leak_findings(leaks),
        *(target_findings(summaries, classes, target=table.target) if table.target else []),
        *column_findings(summaries, target=table.target),
        *alike_findings(compared, _matrix(compared, codes, rows)),
        *duplicate_findings(duplicates.repeats, duplicates.near, rows=len(table), searched=duplicates.searched),
    ]
    without = advice.unused(summaries, target=table.target) | {one.column: "reveals the target?" for one in leaks}
    numeric = tuple(name for name, one in shown.items() if one.numbers)
    return Exploration(
        source=source,
        summaries=summaries,
        groups=groups,
        classes=classes,
        missing=_missing(table, summaries),
        with_target=with_target,
        pearson=Association(numeric, pearson(_matrix(numeric, codes, rows))),
        spearman=Association(numeric, spearman(_matrix(numeric, codes, few))),
        cramers_v=_cramers_v([name for name, one in shown.items() if one.kind == "category"], small),
        duplicates=duplicates,
        leaks=tuple(leaks),
        views=views(drawn),
        findings=tuple(sorted(found, key=lambda one: not one.problem)),
        code=advice.code(source, summaries, without=without),
    )


def _matrix(names, codes, rows) -> np.ndarray:
    return np.stack([codes[name][rows] for name in names], 1) if names else np.zeros((len(rows), 0))


def _cramers_v(names, columns) -> Association:
    values = np.full((len(names),) * 2, np.nan)
    for i, a in enumerate(names):
        for j, b in enumerate(names[: i + 1]):
            values[i, j] = values[j, i] = cramers_v(columns[a], columns[b])
    return Association(tuple(names), values)


def _joined(codes, found: Summary):
    """Return the codes of a category with at most MOST_CODES different ones: the rarest are one code."""
    if found.kind != "category" or found.distinct <= MOST_CODES:
        return codes
    values, counts = np.unique(codes[np.isfinite(codes)], return_counts=True)
    kept = values[np.argsort(-counts, kind="stable")[: MOST_CODES - 1]]
    return np.where(np.isfinite(codes) & ~np.isin(codes, kept), -1, codes)


def _with_target(columns, summaries, target) -> dict[str, float]:
    if target is None:
        return {}
    y, number = columns[target], summaries[target].numbers is not None
    found = {}
    for name, x in columns.items():
        if name == target:
            continue
        if summaries[name].numbers is None:
            found[name] = correlation_ratio(x, y) if number else cramers_v(x, y)
        elif number:
            found[name] = float(abs(spearman(np.stack([x, y], 1))[0, 1]))
        else:
            found[name] = correlation_ratio(y, x)
    return dict(sorted(found.items(), key=lambda item: -np.nan_to_num(item[1], nan=-1)))


def _classes(table, codes) -> dict[str, int]:
    column = table.schema[table.target] if table.target else None
    if column is None or column.kind != "category":
        return {}
    values = codes[table.target]
    counts = np.bincount(values[np.isfinite(values)].astype(np.int64), minlength=len(column.categories))
    return dict(zip(column.categories, counts.tolist(), strict=True))


def _duplicates(table, drawn) -> Duplicates:
    """Search the rows for copies, without identifiers, and the first rows of a sample for near copies."""
    columns = {name: table.columns[name] for name, column in table.schema.items() if column.kind != "identifier"}
    repeats = repeated_rows(columns or table.columns)
    kept = np.flatnonzero(~np.isin(drawn.rows, repeats.rows))[:MOST_NEAR]
    pairs = near_rows(drawn.features[kept]) if drawn.features.shape[1] > 1 else []
    near = [(int(drawn.rows[kept[a]]), int(drawn.rows[kept[b]])) for a, b in pairs]
    return Duplicates(repeats, near, len(kept))


def _leaks(table, order) -> list[Leak]:
    if table.target is None:
        return []
    identifiers = [name for name, column in table.schema.items() if column.kind == "identifier"]
    tested = {table.target, *[*identifiers, *order][:MOST_TESTED]}
    schema = {name: column for name, column in table.schema.items() if name in tested}
    return leaking_columns(table.columns, schema=schema, target=table.target)


def _missing(table, summaries) -> Missing:
    absent = [name for name, found in summaries.items() if found.missing]
    mapped = set(sorted(absent, key=lambda name: -summaries[name].missing)[:MOST_MAPPED])
    names = tuple(name for name in absent if name in mapped)
    complete = np.ones(len(table), bool)
    for name in absent:
        complete &= present(table.columns[name])
    cells = sum(found.missing for found in summaries.values()) / (len(table) * len(summaries))
    return Missing(names, missing_map(table, names), int(complete.sum()), cells)
