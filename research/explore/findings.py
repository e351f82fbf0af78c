"""Findings about a table, with lines of Python to try. A step is an argument of the preparation, `fit(train, ...)`."""

from collections.abc import Mapping, Sequence

import numpy as np

from research.diagnose.duplicates import Repeats
from research.diagnose.finding import Finding
from research.diagnose.leaks import Leak
from research.errors import format_names
from research.explore.advice import MANY, SKEWED
from research.explore.association import pearson
from research.explore.columns import Summary

RARE = 0.1  # a class with less than this fraction of an equal share is rare
ALIKE = 0.95  # an absolute correlation above it is strong
SHOWN, MOST_NAMES = 8, 40  # names in a text, and in a remedy


def column_findings(summaries: Mapping[str, Summary], *, target: str | None) -> list[Finding]:
    """Return the findings about single columns, without the target."""
    columns = {name: s for name, s in summaries.items() if name != target}
    pick = lambda condition: [name for name, s in columns.items() if condition(s)]
    empty = pick(lambda s: s.distribution is None)
    absent = pick(lambda s: s.missing and s.distribution is not None)
    constant = pick(lambda s: s.constant)
    infinite = pick(lambda s: s.infinite)
    many = pick(lambda s: s.kind == "category" and s.distinct > MANY)
    skewed = pick(lambda s: s.numbers and s.kind != "date" and abs(s.numbers.skewness) > SKEWED)
    far = pick(lambda s: s.numbers and s.kind != "date" and s.numbers.far)
    days = pick(lambda s: s.kind == "date" and s.numbers)
    text = pick(lambda s: s.kind == "text")
    found = []

    def add(rule, names, words, *remedies, problem=False):
        if names:
            found.append(Finding(rule, problem, f"{_columns(names)} {words}.", remedies))

    share = lambda name: columns[name].missing / columns[name].rows
    add("no value", empty, "no value in any row", _code("leave out: without=", empty))
    if absent:
        worst = max(absent, key=share)
        remedies = ["numbers: missing.median(flag=True)"] * any(columns[name].numbers for name in absent)
        remedies += ["categories: missing.as_category()"] * any(columns[name].kind == "category" for name in absent)
        most = f", most of all {worst!r}" if len(absent) > 1 else ""
        words = f"missing values{most} ({100 * share(worst):.1f} %)"
        add("missing values", absent, words, *remedies)
    add("infinite numbers", infinite, "infinite numbers, which a preparation refuses",
        f"make them missing: schema={_stated(infinite, columns)}", problem=True)  # fmt: skip
    add("constant columns", constant, "the same value in all rows", _code("leave out: without=", constant))
    add("many categories", many, f"more than {MANY} categories, thus as many features with one_hot",
        _code("one number for each: encode.target_mean(columns=", many, ")"),
        _code("the same without the target: encode.frequency(columns=", many, ")"))  # fmt: skip
    add("outliers", far, "values more than 3 interquartile ranges beyond the quartiles",
        _code("clip at quantiles: outliers.winsorise(columns=", far, ")"),
        _code("mark them: outliers.flag(outliers.iqr(3.0), columns=", far, ")"))  # fmt: skip
    add("skewed numbers", skewed, f"a skewness beyond {SKEWED:g}",
        _code("map to quantiles: scale.quantile(normal=True, columns=", skewed, ")"))  # fmt: skip
    add("dates", days, "dates", _code("make numbers of their parts: dates.parts(columns=", days, ")"),
        "if later rows are to be predicted from earlier ones, split by time with `chronological`")  # fmt: skip
    add("text", text, "text, which is no feature", _code("leave out: without=", text))
    return found


def target_findings(summaries: Mapping[str, Summary], counts: Mapping[str, int], *, target: str) -> list[Finding]:
    """Return the findings about the target; `counts` has the number of rows of each class, or is empty."""
    found, own = [], summaries[target]
    add = lambda rule, problem, text, *remedies: found.append(Finding(rule, problem, text, remedies))
    if own.missing + own.infinite:
        rows = f"{own.missing + own.infinite:,} of {own.rows:,} rows"
        select = "data.known()" if not own.infinite else f"np.flatnonzero(np.isfinite(data.column({target!r})))"
        add("missing target", True, f"The target is missing or infinite in {rows}.", f"data = subset(data, {select})")
    if own.distinct < 2:
        add("constant target", True, f"The target {target!r} has {own.distinct} value; there is nothing to learn.")
    known = {name: count for name, count in counts.items() if count}
    if len(known) > 1:
        rarest = min(known, key=known.get)
        share = known[rarest] / sum(known.values())
        if share < RARE / len(known) or share < 0.05:
            text = f"The class {rarest!r} has {known[rarest]:,} rows, {100 * share:.2g} % of all. Accuracy hides it."
            add("rare class", False, text, "measure average precision or balanced accuracy as well",
                "weight the classes in the loss, as losses.class_balanced does",
                f"repeat rare rows: train = subset(train, oversample(train.column({target!r}), seed=0))")  # fmt: skip
    return found


def alike_findings(names: list[str], x: np.ndarray) -> list[Finding]:
    """Return a finding if pairs of columns of numbers x [n, names] are nearly the same."""
    matrix = np.triu(np.nan_to_num(pearson(x)), 1)
    pairs = np.argwhere(np.abs(matrix) > ALIKE)
    if not len(pairs):
        return []
    shown = [f"{names[i]!r} and {names[j]!r} ({matrix[i, j]:.3f})" for i, j in pairs]
    second = list(dict.fromkeys(names[j] for _, j in pairs))
    text = f"Pairs of columns are nearly proportional (Pearson above {ALIKE}): {format_names(shown, 4)}."
    return [Finding("strong correlation", False, text, (_code("leave out one of each: without=", second),))]


def leak_findings(leaks: Sequence[Leak]) -> list[Finding]:
    """Return a finding about columns that predict the target alone."""
    if not leaks:
        return []
    shown = format_names([str(one) for one in leaks], SHOWN)
    text = f"Each of these predicts the target alone; perhaps the target was known when it was written: {shown}."
    names = [one.column for one in leaks]
    remedies = "find out when each is written", _code("leave out what is not known in time: without=", names)
    return [Finding("leaking columns", True, text, remedies)]


def duplicate_findings(
    repeats: Repeats, near: Sequence[tuple[int, int]], *, rows: int, searched: int
) -> list[Finding]:  # fmt: skip
    """Return a finding about rows that occur twice, if more of them do than coincidences explain."""
    text = []
    if repeats.pairs > max(1, 3 * repeats.by_chance):
        pair = f"such as row {repeats.rows[0]}, which equals row {repeats.originals[0]}"
        text += [f"{len(repeats.rows):,} of {rows:,} rows equal an earlier row, {pair}."]
    if near:
        text += [
            f"{len(near):,} pairs of {searched:,} rows are near copies, such as rows {near[0][0]} and {near[0][1]}."
        ]
    remedies = ("keep copies in one part of a split (`grouped`), or drop them before the split",)
    return [Finding("duplicates", False, " ".join(text), remedies)] if text else []


def _columns(names) -> str:
    shown = format_names([repr(name) for name in names], SHOWN)
    return f"The column {shown} has" if len(names) == 1 else f"The columns {shown} have"


def _code(before, names, after="") -> str:
    """Return a remedy with a tuple of names; the script of the page has those of many columns."""
    if len(names) > MOST_NAMES:
        return f"the lines of the section Preparation name all {len(names):,} columns"
    return f"{before}{tuple(names)!r}{after}"


def _stated(names, columns) -> str:
    stated = (f"{name!r}: Column({columns[name].kind!r}, otherwise='missing')" for name in names)
    return f"{{{', '.join(stated)}}}"
