"""The search space of a sweep: a knob gets a range, a list of choices, or one fixed value."""

import itertools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError, nearest, unknown
from research.runs import secret
from research.runs.knobs import Knob, as_option, convert, plain, resolve

SYNTAX = (
    "A range looks like 1e-4:1e-2 or 1e-4:1e-2:log (1e-4:1e-2:log:5 for five values), choices like 32,64,128. "
    "Write a value that starts with a minus sign as --knob=-1:1."
)
MAX_GRID = 10_000


class Range(NamedTuple):
    """All numbers from `low` to `high`, both included; integers if both are int. `log` samples on a log scale."""

    low: float
    high: float
    log: bool = False


class Choices(NamedTuple):
    """One of `values`, in the form in which JSON stores them."""

    values: tuple


class Space(NamedTuple):
    """The searched knobs {knob: Range | Choices}, and the fixed knobs {knob: value as JSON stores it}."""

    searched: Mapping[str, Range | Choices]
    fixed: Mapping[str, Any]


def space_of(knobs: Mapping[str, Knob], given: Mapping[str, Any]) -> Space:
    """Parse texts such as `1e-4:1e-2:log` and `32,64`, or lists of choices, into the Space of these knobs.

    Raises UserError for an unknown knob, a value that does not fit the type of its knob, or a space without a searched
    knob.
    """
    searched, fixed = {}, {}
    for name, value in given.items():
        if name not in knobs:
            raise unknown("knob", name, knobs)
        if knobs[name].secret and isinstance(value, list):
            raise UserError(f"the knob {name!r} is secret and cannot be searched; give one value.")
        hidden = knobs[name].secret and isinstance(value, str)
        parsed = secret.Hidden(value) if hidden else _parsed(name, value, knobs[name].type)
        if isinstance(parsed, Range | Choices):
            searched[name] = parsed
        else:
            fixed[name] = parsed
    if not searched:
        raise UserError(f"nothing to search: every knob has one value. {SYNTAX} Knobs: {', '.join(knobs)}.")
    secret.pass_to_workers(fixed.items())
    space = Space(searched, plain(fixed))
    resolve(knobs, first(space))  # raises for a knob without a value
    return space


def first(space: Space) -> dict[str, Any]:
    """Return one setting of the knobs from the space."""
    return {**space.fixed, **{n: s.low if isinstance(s, Range) else s.values[0] for n, s in space.searched.items()}}


def suggest(trial, space: Space) -> dict[str, Any]:
    """Return all knobs of an optuna trial. Values that the trial already has do not change."""
    values = dict(space.fixed)
    for name, spec in space.searched.items():
        if isinstance(spec, Choices):
            values[name] = trial.suggest_categorical(name, spec.values)
        else:
            draw = trial.suggest_int if isinstance(spec.low, int) else trial.suggest_float
            values[name] = draw(name, spec.low, spec.high, log=spec.log)
    return values


def grid(space: Space) -> list[dict[str, Any]]:
    """Return every combination of the searched knobs; the last knob changes fastest.

    Raises UserError for a range of floats, which has no finite list of values, and for more than 10,000 combinations.
    """
    axes = {}
    for name, spec in space.searched.items():
        if isinstance(spec, Range) and not isinstance(spec.low, int):
            raise UserError(f"a grid needs the number of values of {name}, such as {_text(spec)}:5, or choices.")
        axes[name] = range(spec.low, spec.high + 1) if isinstance(spec, Range) else spec.values
    if count(space) > MAX_GRID:
        raise UserError(
            f"the grid has {count(space)} points; expected at most {MAX_GRID}. Use --search random instead."
        )
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def count(space: Space) -> float:
    """Return the number of combinations of the searched knobs; infinite with a range of floats."""
    sizes = [
        len(spec.values) if isinstance(spec, Choices)
        else spec.high - spec.low + 1 if isinstance(spec.low, int) else math.inf
        for spec in space.searched.values()
    ]  # fmt: skip
    return math.prod(sizes)


def to_json(space: Space) -> dict:
    """Convert the space to a value that JSON can store."""
    listed = lambda part: list(part) if isinstance(part, tuple) else part  # JSON returns lists
    searched = {name: [type(spec).__name__, *map(listed, spec)] for name, spec in space.searched.items()}
    return {"searched": searched, "fixed": dict(space.fixed)}


def from_json(saved) -> Space:
    """Rebuild the space from the result of `to_json`."""
    kinds = {"Range": Range, "Choices": lambda values: Choices(tuple(values))}
    return Space({n: kinds[kind](*rest) for n, (kind, *rest) in saved["searched"].items()}, saved["fixed"])


def _parsed(name, value, kind):
    """Parse a value into a Range, Choices, or one fixed value."""
    number, is_tuple = _number(kind), typing.get_origin(kind) is tuple
    if isinstance(value, Range):
        value = _text(value)
    if isinstance(value, str) and number and ":" in value:
        return _range(name, value, number)
    if isinstance(value, str) and "," in value and not is_tuple:
        return _choices(name, [part.strip() for part in value.split(",")], kind)
    # A list means choices and a tuple means one value. For a tuple knob, a flat list is one value too.
    if isinstance(value, list) and (not is_tuple or any(isinstance(part, list | tuple) for part in value)):
        return _choices(name, value, kind)
    try:
        return convert(name, value, kind)
    except UserError as error:
        raise UserError(f"{error} {SYNTAX}") from None


def _range(name, text, number):
    low, high, *rest = text.split(":")
    log = bool(rest) and rest[0] == "log"
    rest = rest[log:]
    points = None
    if rest and rest[0].isdigit():
        points, *rest = int(rest[0]), *rest[1:]
    if rest:
        raise UserError(f"{name}: unknown part {rest[0]!r} in {text!r}.{nearest(rest[0], ('log',))} {SYNTAX}")
    try:
        low, high = (convert(name, end.strip(), number) for end in (low, high))
    except UserError as error:
        raise UserError(f"{error} It was parsed as a bound of the range {text!r}. {SYNTAX}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}: the range {text!r} must have finite bounds, the lower one first. {SYNTAX}")
    if log and low <= 0:
        raise UserError(f"{name}: a log range must start above 0, not {text!r}.")
    if points is None:
        return Range(low, high, log)
    if points < 2:
        raise UserError(f"{name}: the number of values in {text!r} must be at least 2.")
    values = (np.geomspace if log else np.linspace)(low, high, points).tolist()
    return Choices(tuple(dict.fromkeys(round(v) for v in values) if number is int else values))


def _choices(name, parts, kind):
    if "" in parts or len(parts) < 2:
        raise UserError(f"{name}: expected two or more choices, none of them empty, not {parts}. {SYNTAX}")
    values = (plain({name: convert(name, part, kind)})[name] for part in parts)
    values = tuple(as_option(value) if isinstance(value, list) else value for value in values)  # optuna takes no lists
    if duplicates := [value for value in values if values.count(value) > 1]:
        raise UserError(f"{name}: the choice {duplicates[0]!r} is given twice.")
    return Choices(values)


def _number(kind):
    """Return int or float if that is the type of the knob, also if it may be None; otherwise None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return kind if kind in (int, float) else None


def _text(spec: Range) -> str:
    return f"{spec.low!r}:{spec.high!r}{':log' * spec.log}"
