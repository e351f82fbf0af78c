"""The steps of a fitted preparation: `step(...).fit(training rows) -> Fitted`, a pure function with its numbers.

    Step    = name, arguments, fit              listed by an experiment, such as scale.standard()
    Fitted  = apply, settings, arrays, ...      apply(columns, arrays, **settings) -> columns

`columns` is {name: f64 [n]}: numbers, places of categories, days; NaN is a missing value. An `apply` is arithmetic that
numpy and jax.numpy share, so that the same function runs on the host, in a jitted model and in an exported one. It is
registered with `applied`; a saved preparation refers to it by name, and nothing else can be called by loading one.

To add a step, copy `features/scale.py`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError, format_names, unknown

Columns = dict[str, Any]
ROWS = "\0rows"  # the column of the training rows' numbers, which only `training` functions see
APPLIED: dict[str, Callable] = {}
ALONG_ROWS: set[str] = set()  # functions whose result for a row depends on other rows


class Feature(NamedTuple):
    """The kind of a column of numbers: "number", "flag" (0 or 1, never scaled), "category" or "date".

    `categories` names the codes of a category; the code after the last one is any other category.
    """

    kind: str
    categories: tuple[str, ...] = ()


class Frame(NamedTuple):
    """The training rows at a step: `columns` {name: f64 [n]}, their `features`, and the target, f64 [n] or None.

    `classes` is the number of classes, or None if the target is a number.
    """

    columns: Columns
    features: Mapping[str, Feature]
    target: np.ndarray | None
    classes: int | None


class Fitted(NamedTuple):
    """A fitted step. `apply` is None if new rows stay as they are.

    training: the function of the training rows, if it differs from `apply`: it may drop rows
    inverse: the function that undoes `apply`, for targets
    features: the kinds of the columns afterwards; None if they do not change
    """

    apply: Callable | None
    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    training: Callable | None = None
    inverse: Callable | None = None
    features: Mapping[str, Feature] | None = None


class Step(NamedTuple):
    """A step before fitting: its name, its arguments as JSON values, and `fit(frame) -> Fitted`."""

    name: str
    arguments: Mapping[str, Any]
    fit: Callable[[Frame], Fitted]

    def __repr__(self):
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


def step(function: Callable[..., Fitted]) -> Callable[..., Step]:
    """Make the maker of a Step from a function (frame, ...) -> Fitted."""
    signature = inspect.signature(function)
    frame, *parameters = signature.parameters.values()

    @functools.wraps(function)
    def make(*args, **kwargs) -> Step:
        arguments = dict(list(signature.bind(None, *args, **kwargs).arguments.items())[1:])
        return Step(name_of(function), arguments, functools.partial(function, **arguments))

    make.__signature__ = signature.replace(parameters=parameters, return_annotation=Step)
    return make


def applied(function: Callable) -> Callable:
    """Register a pure function (columns, arrays, **settings) -> columns, so that a saved preparation can name it."""
    APPLIED[name_of(function)] = function
    return function


def along_rows(function: Callable) -> Callable:
    """Mark an applied function that needs all rows at once, in their order; rows in parts are refused then."""
    ALONG_ROWS.add(name_of(function))
    return function


def name_of(function) -> str:
    """Return the name of a step or of an applied function, such as "features.scale.affine"."""
    return f"{function.__module__.removeprefix('research.data.')}.{function.__name__}"


def namespace(columns: Mapping):
    """Return the module of the arrays: numpy, or jax.numpy."""
    return next(iter(columns.values())).__array_namespace__()


def chosen(frame: Frame, columns, kinds: Sequence[str]) -> list[str]:
    """Return the columns that a step acts on: those named, or all of the given kinds.

    Raises UserError for an unknown column and for one of another kind.
    """
    if columns is None:
        return [name for name, feature in frame.features.items() if feature.kind in kinds]
    names = [columns] if isinstance(columns, str) else list(columns)
    for name in names:
        if name not in frame.features:
            raise unknown("column", name, frame.features)
        if frame.features[name].kind not in kinds:
            raise UserError(
                f"the column {name!r} is of kind {frame.features[name].kind} at this step; expected "
                f"{' or '.join(kinds)}."
            )
    return names


def matrix(frame: Frame, names: Sequence[str], *, what: str) -> np.ndarray:
    """Return columns as a matrix, f64 [n, names]. Raises UserError if there is none, or if a value is missing."""
    if not names:
        raise UserError(f"{what} needs columns of numbers; the table has none at this step.")
    values = np.stack([frame.columns[name] for name in names], 1)
    if missing := [name for name, bad in zip(names, np.isnan(values).any(0), strict=True) if bad]:
        raise UserError(
            f"{what} needs complete columns; values are missing in {format_names(missing)}. Put a step for missing "
            "values before it, such as missing.median()."
        )
    return values


def labels(frame: Frame, *, what: str) -> np.ndarray:
    """Return the target, f64 [n]: numbers, or class numbers. Raises UserError if the table has none."""
    if frame.target is None:
        raise UserError(f"{what} needs a target; name it: table(..., target=...).")
    return frame.target


def take(xp, table, codes):
    """Return `table[codes]` for codes as floats, and NaN for a missing code."""
    missing = xp.isnan(codes)
    return xp.where(missing, xp.nan, xp.asarray(table)[xp.where(missing, 0, codes).astype(int)])
