"""The schema of a table: the content of each column, inferred or stated, saved with a run, and checked on new rows.

Strings and times become numbers here, on the host; everything after that is arithmetic on f64 columns [n], in which
NaN is a missing value:

    number, integer    the number
    category           its place in `categories`, and one more for any other value; with `buckets`, a hash below that
    date               days since 1970-01-01, and, if the column has times, `NAME time`, the seconds of the day
    text, identifier   none: they are no features. An identifier stays in the records, and so in predictions
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from research.data.readers.cells import NUMBER, present, strings
from research.data.readers.dates import date_form, dates
from research.errors import UserError, format_names, nearest, unknown

KINDS = ("number", "integer", "category", "text", "date", "identifier")
RULES = ("accept", "refuse", "missing", "clip")
FEW = 20  # an integer target with at most this many values is a category; fewer rows do not make an identifier


class Column(NamedTuple):
    """The content of a column, and the treatment of unexpected values.

    kind: one of KINDS
    categories: the values of a category, as strings
    low, high: the range of numbers, or of dates in days since 1970-01-01
    form: how dates are written, for strptime; "" is ISO 8601
    time: whether dates have a time of day
    buckets: the number of hashes of a category, instead of `categories`
    missing: the fraction of missing values, for information
    otherwise: what happens to a value outside the range or the categories. "accept" keeps the number, and gives every
      other category one common place; "refuse" is an error; "missing" makes it a missing value; "clip" is the end of
      the range. A value that is no number or date at all, or infinite, is an error unless it is "missing".
    """

    kind: str
    categories: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    form: str = ""
    time: bool = False
    buckets: int | None = None
    missing: float = 0.0
    otherwise: str = "accept"


Schema = Mapping[str, Column]


class Problem(NamedTuple):
    """Values of a column that its schema does not have: their rows [m], the first value, and what was done."""

    column: str
    rows: np.ndarray
    value: Any
    expected: str
    treatment: str

    def __str__(self):
        more = f" and {len(self.rows) - 1:,} more rows: {format_names(list(self.rows[1:]), 5)}"
        more = f" (row {self.rows[0]}{more if len(self.rows) > 1 else ''})"
        return f"column {self.column!r} has {self.value!r}{more}; expected {self.expected}: {self.treatment}"


def infer(columns: Mapping[str, np.ndarray], *, stated: Mapping | None = None, target: str | None = None) -> dict:
    """Return the schema {name: Column} of raw columns.

    `stated` has a kind, or a Column, for some of them; the rest is inferred from the values. Strings with
    the form of dates are dates, and strings that repeat are categories. Strings that are mostly distinct are text, or
    an identifier if they are all distinct and of one word. Integers are an identifier if they count the rows from 0 or
    1, or are all distinct in a column whose name ends in "id". A target of strings, or of few integers, is a category.

    Raises UserError for a column of numbers with some other text, for dates of several forms or readings, and for a
    stated column or kind that does not exist.
    """
    stated = dict(stated or {})
    for name, column in stated.items():
        if name not in columns:
            raise unknown("column of the schema", name, columns)
        column = Column(column) if isinstance(column, str) else column
        if not isinstance(column, Column):
            raise UserError(f"schema[{name!r}] is {column!r}; expected a kind ({', '.join(KINDS)}) or a Column.")
        if column.kind not in KINDS:
            raise unknown(f"kind of the column {name!r}", column.kind, KINDS)
        if column.otherwise not in RULES:
            raise unknown(f"otherwise= of the column {name!r}", column.otherwise, RULES)
        stated[name] = column
    return {name: _column(name, values, stated.get(name), name == target) for name, values in columns.items()}


def _column(name, values, stated, is_target) -> Column:
    known = present(values)
    missing = round(1 - float(known.mean()), 6)
    values = values[known]
    stated = stated or Column(_kind(name, values, is_target, np.flatnonzero(known)))
    column = stated._replace(missing=missing)
    if column.kind == "category" and not column.categories and not column.buckets:
        return column._replace(categories=tuple(_ordered(strings(values))))
    if column.kind == "date":
        form = column.form or (
            date_form(name, values, np.flatnonzero(known)) if values.dtype == object and len(values) else ""
        )
        column = column._replace(form=form or "")
        times, wrong = dates(values, column.form)
        times = times[~wrong]
        column = column._replace(time=column.time or bool((times != times.astype("datetime64[D]")).any()))
        values = times.astype("datetime64[D]").astype(np.float64)
    if column.kind in ("number", "integer", "date") and values.dtype != object:
        finite = values[np.isfinite(values)]
        if len(finite):
            low, high = float(finite.min()), float(finite.max())
            column = column._replace(
                low=low if column.low is None else column.low, high=high if column.high is None else column.high
            )
    return column


def _kind(name, values, is_target, rows) -> str:
    """Return the kind of the values of a column that are not missing, which are in `rows` [n]."""
    if not len(values):
        return "number"
    if values.dtype.kind == "M":
        return "date"
    if values.dtype != object:
        whole = bool((np.isfinite(values) & (values == np.round(values))).all())
        if not whole:
            return "number"
        distinct = np.unique(values)
        if is_target:
            return "category" if len(distinct) <= FEW else "integer"
        complete = len(rows) == rows[-1] + 1
        if complete and len(distinct) == len(values) >= FEW:
            if is_key(name) or values[0] in (0, 1) and bool((np.diff(values) == 1).all()):
                return "identifier"
        return "integer"
    if is_target:
        return "category"
    distinct = list(dict.fromkeys(values))
    if date_form(name, values, rows) is not None:
        return "date"
    numeric = np.array([bool(re.match(NUMBER, text)) for text in distinct])
    leading = any(re.match(r"[+-]?0\d", text) for text in distinct)
    if not leading and 0.5 < numeric.mean() < 1:
        other = distinct[int(np.argmin(numeric))]
        raise UserError(
            f"the column {name!r} has {int(numeric.sum())} different numbers, and {other!r} in row "
            f"{rows[int(np.argmax(values == other))]}. If such cells are missing values, add them to missing=; "
            f"otherwise state the kind: schema={{{name!r}: 'category'}}."
        )
    words = np.mean([" " in text.strip() for text in distinct[:1000]])
    if len(distinct) == len(values) >= FEW:
        return "text" if words > 0.5 else "identifier"
    return "text" if len(distinct) > max(FEW, len(values) / 2) else "category"


def is_key(name: str) -> bool:
    """Return whether the name of a column is that of a key, such as "id", "patient_id" or "userID"."""
    return bool(re.search(r"(^|[_\W])(id|uuid|key)$", name, re.IGNORECASE) or re.search("[a-z]I[dD]$", name))


def _ordered(values) -> list[str]:
    """Return the different strings in order, numbers by their size."""
    distinct = list(dict.fromkeys(values))
    number = all(re.match(NUMBER, text) for text in distinct)
    return sorted(distinct, key=(lambda text: (float(text), text)) if number else None)


def code(schema: Schema, columns: Mapping[str, np.ndarray], *, rows=None) -> tuple[dict, list[Problem]]:
    """Turn raw columns into columns of numbers, f64 [n], and return the values that the schema did not expect.

    `rows` [n] are the numbers of the rows in messages, by default 0, 1, ...

    Raises UserError for a column of the schema that is missing, and for values that the schema refuses, with column
    and rows.
    """
    coded, problems = {}, []
    for name, column in schema.items():
        if name not in columns:
            raise UserError(
                f"the column {name!r} ({column.kind}) is missing.{nearest(name, columns)} The table has: "
                f"{format_names(list(columns), 20)}."
            )
        if column.kind in ("text", "identifier"):
            continue
        values = columns[name]
        if column.kind == "category":
            coded[name] = _codes(name, column, values, problems)
        elif column.kind == "date":
            times, wrong = dates(values, column.form)
            wanted = f"a date ({column.form or 'ISO'})"
            _note(problems, name, column._replace(otherwise=_strict(column)), wrong, values, wanted)
            times = np.where(wrong, np.datetime64("NaT", "us"), times)
            known = ~np.isnat(times)
            days = np.full(len(times), np.nan)
            days[known] = times[known].astype("datetime64[D]").astype(np.float64)
            days = coded[name] = _within(name, column, days, values, problems)
            if column.time:
                if f"{name} time" in schema:
                    raise UserError(f"the column '{name} time' has the name of the times of {name!r}; rename it.")
                seconds = np.full(len(times), np.nan)
                seconds[known] = (times[known] - times[known].astype("datetime64[D]")) / np.timedelta64(1, "s")
                coded[f"{name} time"] = np.where(np.isnan(days), np.nan, seconds)
        else:
            numbers, wrong = as_numbers(values)
            wrong |= np.isinf(numbers)
            if column.kind == "integer":
                wrong |= np.isfinite(numbers) & (numbers != np.round(numbers))
            wanted = "a finite number" if column.kind == "number" else "an integer"
            _note(problems, name, column._replace(otherwise=_strict(column)), wrong, values, wanted)
            coded[name] = _within(name, column, np.where(wrong, np.nan, numbers), values, problems)
    problems = problems if rows is None else [problem._replace(rows=rows[problem.rows]) for problem in problems]
    if refused := [str(problem) for problem in problems if problem.treatment == "refused"]:
        raise UserError("the table does not fit its schema:\n" + "\n".join(f"  {text}" for text in refused))
    return coded, problems


def _strict(column):
    return "missing" if column.otherwise == "missing" else "refuse"


def _note(problems, name, column, wrong, values, expected):
    """Record the rows of the mask `wrong` as a Problem, if there are any."""
    if wrong.any():
        rows = np.flatnonzero(wrong)
        value = values[rows[0]]
        done = {"accept": "accepted", "refuse": "refused", "missing": "made missing", "clip": "clipped"}
        value = str(value) if isinstance(value, np.datetime64) else getattr(value, "item", lambda: value)()
        problems.append(Problem(name, rows, value, expected, done[column.otherwise]))


def as_numbers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a raw column as f64, and a mask of the strings that are no numbers, which become NaN."""
    if values.dtype.kind == "M":
        return np.full(len(values), np.nan), present(values)
    if values.dtype != object:
        return values.astype(np.float64), np.zeros(len(values), bool)
    wrong = np.array([bool(text) and not re.match(NUMBER, text) for text in values], bool)
    return np.where(wrong | (values == ""), "nan", values).astype(np.float64), wrong


def _within(name, column, numbers, values, problems):
    low = -np.inf if column.low is None else column.low
    high = np.inf if column.high is None else column.high
    outside = (numbers < low) | (numbers > high)
    if column.kind == "date":
        low, high = (np.datetime64(int(x), "D") if np.isfinite(x) else x for x in (low, high))
    shown = lambda x: str(x) if column.kind == "date" else f"{x:.6g}"
    _note(problems, name, column, outside, values, f"{shown(low)} to {shown(high)}")
    if column.otherwise == "missing":
        return np.where(outside, np.nan, numbers)
    return np.clip(numbers, column.low, column.high) if column.otherwise == "clip" and outside.any() else numbers


def _codes(name, column, values, problems):
    import pyarrow as pa
    import pyarrow.compute as pc

    text = strings(values)
    cells = pa.array(text, pa.string())
    known = np.asarray(text != "", bool)
    if column.buckets:
        from sklearn.utils import murmurhash3_32

        distinct = cells.dictionary_encode()
        hashes = [abs(murmurhash3_32(f"{name}={value}", seed=0)) for value in distinct.dictionary.to_pylist()]
        codes = np.array(hashes, np.int64)[distinct.indices.to_numpy()] % column.buckets
        return np.where(known, codes, np.nan)
    places = pc.index_in(cells, value_set=pa.array(column.categories, pa.string()))
    codes = np.asarray(pc.fill_null(places, len(column.categories)).to_numpy(), np.float64)
    other = known & (codes == len(column.categories))
    if column.otherwise == "clip":
        raise UserError(f"the category {name!r} has otherwise='clip', which is for numbers; expected another rule.")
    _note(problems, name, column, other, values, f"one of {format_names(column.categories)}")
    return np.where(known & ~(other & (column.otherwise == "missing")), codes, np.nan)


def to_json(schema: Schema) -> dict[str, dict]:
    """Return the schema as JSON: {name: the fields of its Column that are not the default}."""
    defaults = Column("")._asdict()
    return {n: {k: v for k, v in c._asdict().items() if v != defaults[k]} for n, c in schema.items()}


def from_json(value: Mapping[str, Mapping]) -> dict[str, Column]:
    """Return the schema that `to_json` wrote."""
    return {name: Column(**{**c, "categories": tuple(c.get("categories", ()))}) for name, c in value.items()}


def describe(schema: Schema, most: int = 50) -> str:
    """Return the schema as text, a line per column, of the first `most`."""
    lines = []
    for name, c in list(schema.items())[:most]:
        extent = f"{c.low:g} to {c.high:g}" if c.low is not None and c.kind in ("number", "integer") else ""
        if c.kind == "date" and c.low is not None:
            extent = f"{np.datetime64(int(c.low), 'D')} to {np.datetime64(int(c.high), 'D')}"
        if c.kind == "category":
            extent = f"{c.buckets} hashes" if c.buckets else f"{len(c.categories)}: {format_names(c.categories, 5)}"
        lines.append(f"  {name}: {c.kind} {extent}".rstrip() + (f", {c.missing:.1%} missing" if c.missing else ""))
    return "\n".join(lines) + (f"\n  and {len(schema) - most:,} more columns" if len(schema) > most else "")
