"""What a sweep may give a knob: a range, a list of choices, or one value that stays."""

import itertools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from research.errors import UserError, nearest, unknown
from research.runs.folder import plain
from research.runs.knobs import Knob, convert, resolve

HOW = (
    "A range looks like 1e-4:1e-2 or 1e-4:1e-2:log (1e-4:1e-2:log:5 for five values of it), choices like 32,64,128; "
    "what begins with a minus is given as --knob=-1:1."
)
MAX_GRID = 10_000


class Range(NamedTuple):
    """All numbers from `low` to `high`, both included; whole ones where both are int. `log`: by their logarithm."""

    low: float
    high: float
    log: bool = False


class Choices(NamedTuple):
    """One of `values`, which are as JSON holds them."""

    values: tuple


class Space(NamedTuple):
    """What is searched, {knob: Range | Choices}, and the knobs that stay, {knob: value as JSON holds it}."""

    searched: Mapping[str, Range | Choices]
    fixed: Mapping[str, Any]


def space_of(knobs: Mapping[str, Knob], given: Mapping[str, Any]) -> Space:
    """The Space that texts such as `1e-4:1e-2:log` and `32,64` (or lists of choices) give for these knobs.

    Raises UserError for unknown knobs, for what does not fit a knob's type, and where nothing is left to search.
    """
    searched, fixed = {}, {}
    for name, value in given.items():
        if name not in knobs:
            raise unknown("knob", name, knobs)
        found = _parsed(name, value, knobs[name].type)
        if isinstance(found, Range | Choices):
            searched[name] = found
        else:
            fixed[name] = found
    if not searched:
        raise UserError(f"nothing to search: every knob has one value. {HOW} Knobs: {', '.join(knobs)}.")
    space = Space(searched, plain(fixed))
    resolve(knobs, first(space))  # every knob has a value
    return space


def first(space: Space) -> dict[str, Any]:
    """One setting of the knobs that the space holds."""
    return {**space.fixed, **{n: s.low if isinstance(s, Range) else s.values[0] for n, s in space.searched.items()}}


def suggest(trial, space: Space) -> dict[str, Any]:
    """All knobs of an optuna trial: what it has been given already stays."""
    values = dict(space.fixed)
    for name, of in space.searched.items():
        if isinstance(of, Choices):
            values[name] = trial.suggest_categorical(name, of.values)
        else:
            draw = trial.suggest_int if isinstance(of.low, int) else trial.suggest_float
            values[name] = draw(name, of.low, of.high, log=of.log)
    return values


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of the searched knobs, the last one changing fastest.

    Raises UserError for a range of numbers that are not whole, which has no end of them, and for too many.
    """
    axes, count = {}, 1
    for name, of in space.searched.items():
        if isinstance(of, Range) and not isinstance(of.low, int):
            raise UserError(f"a grid needs to know how many values of {name} to try: {_text(of)}:5, or choices.")
        axes[name] = range(of.low, of.high + 1) if isinstance(of, Range) else of.values
        count *= len(axes[name])
    if count > MAX_GRID:
        raise UserError(f"this grid has {count} points, more than {MAX_GRID}; search at random instead.")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def to_json(space: Space) -> dict:
    """The space as JSON holds it."""
    listed = lambda part: list(part) if isinstance(part, tuple) else part  # as it comes back
    searched = {name: [type(of).__name__, *map(listed, of)] for name, of in space.searched.items()}
    return {"searched": searched, "fixed": dict(space.fixed)}


def from_json(saved) -> Space:
    """What `to_json` gave."""
    kinds = {"Range": Range, "Choices": lambda values: Choices(tuple(values))}
    return Space({n: kinds[kind](*rest) for n, (kind, *rest) in saved["searched"].items()}, saved["fixed"])


def _parsed(name, value, kind):
    """A Range, Choices, or the value itself."""
    number, many = _number(kind), typing.get_origin(kind) is tuple
    if isinstance(value, Range):
        value = _text(value)
    if isinstance(value, str) and number and ":" in value:
        return _range(name, value, number)
    if isinstance(value, str) and "," in value and not many:
        return _choices(name, [part.strip() for part in value.split(",")], kind)
    # A list is choices, a tuple is one value: unless the knob is a tuple, and the list holds no values of it.
    if isinstance(value, list) and (not many or any(isinstance(part, list | tuple) for part in value)):
        return _choices(name, value, kind)
    return convert(name, value, kind)


def _range(name, text, number):
    low, high, *rest = text.split(":")
    log = bool(rest) and rest[0] == "log"
    rest = rest[log:]
    points = None
    if rest and rest[0].isdigit():
        points, *rest = int(rest[0]), *rest[1:]
    if rest:
        raise UserError(f"{name}: {rest[0]!r} in {text!r} is not known.{nearest(rest[0], ('log',))} {HOW}")
    try:
        low, high = (convert(name, end.strip(), number) for end in (low, high))
    except UserError as error:
        raise UserError(f"{error} It was read as a range from {text!r}. {HOW}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}: the range {text!r} must go from a number to a larger one. {HOW}")
    if log and low <= 0:
        raise UserError(f"{name}: the range {text!r} has a logarithm only where it begins above 0.")
    if points is None:
        return Range(low, high, log)
    if points < 2:
        raise UserError(f"{name}: {text!r} is to have two values at least.")
    values = (np.geomspace if log else np.linspace)(low, high, points).tolist()
    return Choices(tuple(dict.fromkeys(round(v) for v in values) if number is int else values))


def _choices(name, parts, kind):
    if "" in parts or len(parts) < 2:
        raise UserError(f"{name}: choices are two values or more, none of them empty; given were {parts}. {HOW}")
    values = tuple(plain({name: convert(name, part, kind)})[name] for part in parts)
    if twice := [value for value in values if values.count(value) > 1]:
        raise UserError(f"{name}: the choice {twice[0]!r} is given twice.")
    return Choices(values)


def _number(kind):
    """int or float where that is the knob's type, or None may stand beside it."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return kind if kind in (int, float) else None


def _text(of: Range) -> str:
    return f"{of.low!r}:{of.high!r}{':log' * of.log}"
