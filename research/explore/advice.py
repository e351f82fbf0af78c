"""A preparation for a table, as steps and as lines of Python that can be pasted."""

from collections.abc import Mapping
from typing import NamedTuple

from research.data.clean import missing, outliers
from research.data.features import dates, encode, scale
from research.data.steps import Step
from research.errors import format_names, printable
from research.explore.columns import Summary
from research.explore.source import Source

FEW_ROWS = 10  # fewer are not split
MANY = 50  # a category with more values gets one number instead of a 0/1 column for each
SKEWED = 2.0


class Advised(NamedTuple):
    """A step of a preparation, and its reason."""

    step: Step
    why: str


def unused(summaries: Mapping[str, Summary], *, target: str | None = None) -> dict[str, str]:
    """Return {column: reason} of the columns that are no features. Identifiers are none anyway."""
    reasons = {}
    for name, found in summaries.items():
        if name == target or found.kind == "identifier":
            continue
        if found.kind == "text":
            reasons[name] = "text"
        elif found.distribution is None:
            reasons[name] = "no value"
        elif found.constant:
            reasons[name] = "constant"
    return reasons


def preparation(summaries: Mapping[str, Summary], *, target: str | None = None, classes: int = 0) -> list[Advised]:
    """Return the steps that make features of all columns except those that are `unused`.

    `classes` is the number of classes of the target; 0 if it is a number.
    """
    excluded = {*unused(summaries, target=target), target}
    used = {name: s for name, s in summaries.items() if name not in excluded and s.kind != "identifier"}
    numbers = {name: s for name, s in used.items() if s.numbers}
    categories = {name: s for name, s in used.items() if s.kind == "category"}
    plain = {name: s for name, s in numbers.items() if s.kind != "date"}
    skewed = [name for name, s in plain.items() if abs(s.numbers.skewness) > SKEWED]
    far = [name for name, s in plain.items() if s.numbers.far and name not in skewed]
    many = [name for name, s in categories.items() if s.distinct > MANY]
    found = []
    if absent := [name for name, s in numbers.items() if s.missing + s.infinite]:
        found.append(Advised(missing.median(flag=True), f"missing: {_shares(numbers, absent)}"))
    if absent := [name for name, s in categories.items() if s.missing]:
        found.append(Advised(missing.as_category(), f"missing: {_shares(categories, absent)}"))
    if days := [name for name, s in numbers.items() if s.kind == "date"]:
        found.append(Advised(dates.parts(), f"dates: {format_names(days, 4)}"))
    if far:
        found.append(Advised(outliers.winsorise(columns=tuple(far)), "far outliers"))
    if skewed:
        found.append(Advised(scale.quantile(normal=True, columns=tuple(skewed)), "skewed"))
    if numbers:
        found.append(Advised(scale.standard(), "mean 0 and standard deviation 1"))
    if many:
        means = target is not None and classes <= 10
        step = encode.target_mean if means else encode.frequency
        found.append(Advised(step(columns=tuple(many)), f"more than {MANY} categories"))
    if len(many) < len(categories):
        rows = max(s.rows for s in categories.values())
        found.append(Advised(encode.one_hot(rare=max(2, rows // 1000)), "the other categories"))
    return found


def code(source: Source, summaries: Mapping[str, Summary], *, without: Mapping[str, str]) -> str:
    """Return a script that opens the table, splits it, and fits the preparation on the training rows.

    `without` is {column: reason} of the columns that it leaves out. Empty if the table has too few rows or no feature.
    """
    table, target = source.table, source.table.target
    column = table.schema[target] if target else None
    classes = len(column.categories) if column and column.kind == "category" else 0
    kept = {name: s for name, s in summaries.items() if name not in without}
    steps = preparation(kept, target=target, classes=classes)
    absent = summaries[target].missing + summaries[target].infinite if target else 0
    known = len(table) - absent
    if known < FEW_ROWS or not steps:
        return ""
    infinite = [name for name, s in kept.items() if s.infinite and name != target]
    lines = [_opening(source, {name: f"Column({summaries[name].kind!r}, otherwise='missing')" for name in infinite})]
    if absent:
        finite = f"np.flatnonzero(np.isfinite(data.column({target!r})))" if not classes else "data.known()"
        lines += [f"data = subset(data, {finite})  # {absent:,} rows have no target"]
    split = f"stratified(data.column({target!r})" if classes else "shuffled(len(data)"
    lines += [
        f"train, test = (subset(data, rows) for rows in {split}, (0.8, 0.2), seed=0))",
        "prepare = fit(",
        "    train,",
    ]
    for advised in steps:
        lines += [f"    {_call(advised.step)},  # {_comment(advised.why)}"]
    if without:
        reasons = format_names(list(dict.fromkeys(without.values())))
        lines += [f"    without={tuple(without)!r},  # {_comment(reasons)}"]
    lines += [")", "features = prepare(train, training=True), prepare(test, training=False)"]
    return "\n".join([*_imports("\n".join(lines)), "", *lines])


def _opening(source: Source, columns: Mapping[str, str]) -> str:
    """Return the line that opens the table; `columns` is {name: code of its Column} for the schema."""
    if source.opening is None and not columns:
        return "# `data` is the table that was explored"
    arguments = {name: repr(value) for name, value in source.arguments.items() if value is not None}
    schema = {name: repr(value) for name, value in (source.arguments.get("schema") or {}).items()} | columns
    if schema:
        rest = "**data.schema, " if source.opening is None else ""
        arguments["schema"] = f"{{{rest}{', '.join(f'{name!r}: {value}' for name, value in schema.items())}}}"
    opening = source.opening or "data.columns"
    return f"data = table({', '.join([opening, *(f'{name}={value}' for name, value in arguments.items())])})"


def _imports(body) -> list[str]:
    names = {
        "research.data": ("Column", "fit", "in_memory", "shuffled", "stratified", "subset", "table", "tfds_source"),
        "research.data.clean": ("missing", "outliers"),
        "research.data.features": ("dates", "encode", "scale"),
    }
    found = {module: [n for n in wanted if f"{n}(" in body or f" {n}." in body] for module, wanted in names.items()}
    imports = [f"from {module} import {', '.join(used)}" for module, used in found.items() if used]
    return ["import numpy as np", "", *imports] if "np." in body else imports


def _call(step: Step) -> str:
    return repr(step).partition(".")[2]  # without the subpackage


def _comment(text: str) -> str:
    return printable(" ".join(text.split()))


def _shares(summaries, names) -> str:
    shares = {name: (summaries[name].missing + summaries[name].infinite) / summaries[name].rows for name in names}
    return format_names([f"{name} {100 * share:.1f} %" for name, share in shares.items()], 4)
