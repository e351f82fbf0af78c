"""Missing values: what takes their place. Every step also accepts `flag=True`, which adds a 0/1 column per column that
had missing values in training: `NAME missing`.
"""

import numpy as np

from research.data.steps import Feature, Fitted, along_rows, applied, chosen, namespace, step, take
from research.errors import UserError, format_names

NUMBERS = ("number", "date")


@step
def constant(frame, value, *, columns=None, flag: bool = False) -> Fitted:
    """Fill columns of numbers with a number, or columns of categories with one of their categories."""
    kinds = ("category",) if isinstance(value, str) else NUMBERS
    names = chosen(frame, columns, kinds)
    values = []
    for name in names:
        categories = frame.features[name].categories
        if isinstance(value, str) and value not in categories:
            raise UserError(f"{value!r} is no category of {name!r}; expected one of {format_names(categories)}.")
        values.append(categories.index(value) if isinstance(value, str) else float(value))
    return filled(frame, names, values, flag)


@step
def mean(frame, *, columns=None, flag: bool = False) -> Fitted:
    """Fill numbers and dates with the mean of the training rows."""
    names = chosen(frame, columns, NUMBERS)
    return filled(frame, names, [known_values(frame, name).mean() for name in names], flag)


@step
def median(frame, *, columns=None, flag: bool = False) -> Fitted:
    """Fill numbers and dates with the median of the training rows."""
    names = chosen(frame, columns, NUMBERS)
    return filled(frame, names, medians(frame, names), flag)


@step
def most_frequent(frame, *, columns=None, flag: bool = False) -> Fitted:
    """Fill categories with the most frequent one of the training rows; of several, with the first.

    Columns of numbers are filled if they are named.
    """
    names = chosen(frame, columns, ("category",) if columns is None else ("category", *NUMBERS))
    values = []
    for name in names:
        different, counts = np.unique(known_values(frame, name), return_counts=True)
        values.append(different[np.argmax(counts)])
    return filled(frame, names, values, flag)


@step
def as_category(frame, *, columns=None) -> Fitted:
    """Make "missing" a category of its own, after the others."""
    names = chosen(frame, columns, ("category",))
    counts = np.array([len(frame.features[name].categories) for name in names], np.float64)
    features = dict(frame.features)
    for name in names:
        features[name] = Feature("category", (*frame.features[name].categories, "(missing)"))
    return Fitted(own_place, {"names": names}, {"counts": counts}, features=features)


@applied
def own_place(columns, arrays, *, names):
    """Give a missing code the place after the last category, and any other category the place after that."""
    xp, columns = namespace(columns), dict(columns)
    for name, count in zip(names, arrays["counts"], strict=True):
        codes = columns[name]
        columns[name] = xp.where(xp.isnan(codes), count, xp.where(codes >= count, codes + 1, codes))
    return columns


@step
def by_group(frame, group: str, *, columns=None, flag: bool = False) -> Fitted:
    """Fill numbers with the median of the training rows of the same category of `group`.

    A missing or other category, and one without a known value, gives the median of all training rows.
    """
    chosen(frame, group, ("category",))
    names = chosen(frame, columns, NUMBERS)
    codes, count = frame.columns[group], len(frame.features[group].categories)
    table = np.empty((len(names), count + 2))
    for i, name in enumerate(names):
        table[i] = np.median(known_values(frame, name))
        known = ~np.isnan(frame.columns[name])
        for code in np.unique(codes[known & (codes < count)]):
            table[i, int(code)] = np.median(frame.columns[name][known & (codes == code)])
    return flagged(frame, names, flag, Fitted(fill_by, {"names": names, "group": group}, {"table": table}))


@applied
def fill_by(columns, arrays, *, names, group, flags=()):
    """Fill each column from a row of `table` [names, categories + 2], at the code of the group."""
    xp, columns = namespace(columns), with_flags(columns, flags)
    codes = xp.where(xp.isnan(columns[group]), arrays["table"].shape[1] - 1, columns[group])
    for name, values in zip(names, arrays["table"], strict=True):
        columns[name] = xp.where(xp.isnan(columns[name]), take(xp, values, codes), columns[name])
    return columns


@step
def interpolate(frame, *, columns=None, flag: bool = False) -> Fitted:
    """Fill numbers of a series on the line between the known neighbours; rows are in the order of time.

    Before the first known value and after the last, that value is repeated. A column without any known value, such as a
    single new row, gets the median of the training rows.
    """
    names = chosen(frame, columns, NUMBERS)
    return flagged(frame, names, flag, Fitted(between, {"names": names}, {"values": medians(frame, names)}))


@along_rows
@applied
def between(columns, arrays, *, names, flags=()):
    """Fill along the rows by linear interpolation."""
    xp, columns = namespace(columns), with_flags(columns, flags)
    for name, value in zip(names, arrays["values"], strict=True):
        x = columns[name]
        rows = xp.arange(len(x))
        before, after = _last_known(xp, x), len(x) - 1 - _last_known(xp, x[::-1])[::-1]
        left, right = xp.where(before < 0, after, before), xp.where(after >= len(x), before, after)
        known = (left >= 0) & (left < len(x))
        left, right = (xp.clip(at, 0, len(x) - 1) for at in (left, right))
        part = (rows - left) / xp.maximum(right - left, 1)
        line = x[left] * (1 - part) + x[right] * part
        columns[name] = xp.where(xp.isnan(x), xp.where(known, line, value), x)
    return columns


@step
def forward(frame, *, columns=None, flag: bool = False) -> Fitted:
    """Fill numbers of a series with the last known value; rows are in the order of time.

    Before the first known value, it is the median of the training rows.
    """
    names = chosen(frame, columns, NUMBERS)
    return flagged(frame, names, flag, Fitted(last, {"names": names}, {"values": medians(frame, names)}))


@along_rows
@applied
def last(columns, arrays, *, names, flags=()):
    """Fill along the rows with the last known value."""
    xp, columns = namespace(columns), with_flags(columns, flags)
    for name, value in zip(names, arrays["values"], strict=True):
        x = columns[name]
        at = _last_known(xp, x)
        columns[name] = xp.where(at < 0, value, x[xp.maximum(at, 0)])
    return columns


@step
def delete(frame, *, columns=None) -> Fitted:
    """Drop training rows with a missing value. New rows are never dropped: they need a further step, or are refused."""
    names = chosen(frame, columns, (*NUMBERS, "category", "flag"))
    return Fitted(None, {"names": names}, {}, training=complete_rows)


@applied
def complete_rows(columns, arrays, *, names):
    """Return the rows without a missing value in `names`."""
    keep = ~np.any([np.isnan(columns[name]) for name in names], axis=0)
    return {name: values[keep] for name, values in columns.items()}


def filled(frame, names, values, flag: bool) -> Fitted:
    """Return the Fitted that fills each column of `names` with its value."""
    arrays = {"values": np.array(values, np.float64)}
    return flagged(frame, names, flag, Fitted(fill, {"names": list(names)}, arrays))


@applied
def fill(columns, arrays, *, names, flags=()):
    """Fill each column with its number of `values` [names]."""
    xp, columns = namespace(columns), with_flags(columns, flags)
    for name, value in zip(names, arrays["values"], strict=True):
        columns[name] = xp.where(xp.isnan(columns[name]), value, columns[name])
    return columns


def medians(frame, names) -> np.ndarray:
    """Return the median of the known values of each column, f64 [names]."""
    return np.array([np.median(known_values(frame, name)) for name in names], np.float64)


def known_values(frame, name) -> np.ndarray:
    """Return the values of a column that are not missing. Raises UserError if there is none."""
    values = frame.columns[name][~np.isnan(frame.columns[name])]
    if not len(values):
        raise UserError(
            f"the column {name!r} has no value in the training rows. Leave it out: without=({name!r},), or name the "
            "other columns: columns=(...)."
        )
    return values


def flagged(frame, names, flag, fitted):
    """Add the flags to a Fitted, if they are wanted."""
    if not flag:
        return fitted
    flags = [name for name in names if np.isnan(frame.columns[name]).any()]
    features = {**frame.features, **{f"{name} missing": Feature("flag") for name in flags}}
    return fitted._replace(settings={**fitted.settings, "flags": flags}, features=features)


def with_flags(columns, flags):
    """Return a copy of the columns with a 0/1 column for each name of `flags`."""
    xp = namespace(columns)
    added = {f"{name} missing": xp.where(xp.isnan(columns[name]), 1.0, 0.0) for name in flags}
    return {**columns, **added}


def _last_known(xp, x):
    """Return the row of the last known value up to each row, i64 [n]; -1 before the first."""
    return xp.maximum.accumulate(xp.where(xp.isnan(x), -1, xp.arange(len(x))))
