"""An experiment's knobs: the typed keyword arguments of its function are the only ones there are."""

import argparse
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research import duration
from research.errors import UserError, nearest, unknown


class Knob(NamedTuple):
    """One keyword argument: its type, its default (`inspect.Parameter.empty` where it has none), its help."""

    type: Any
    default: Any
    help: str


def knobs_of(function: Callable) -> dict[str, Knob]:
    """The knobs of an experiment function. Lines `name: text` in its docstring are their help.

    Raises UserError where an argument is positional or has no type.
    """
    types_ = typing.get_type_hints(function)
    knobs = {}
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is not inspect.Parameter.KEYWORD_ONLY or name not in types_:
            raise UserError(f"argument {name!r} of {function.__name__}() must be keyword-only and have a type.")
        found = re.search(rf"^\s*{name}: (.+)$", function.__doc__ or "", re.MULTILINE)
        knobs[name] = Knob(types_[name], argument.default, found.group(1).strip() if found else "")
    return knobs


def resolve(knobs: Mapping[str, Knob], given: Mapping[str, Any]) -> dict[str, Any]:
    """All knobs with their values: those given (texts are converted to the knob's type) over the defaults.

    Raises UserError for an unknown knob, one without a value, or a value that does not fit the type.
    """
    for name in given:
        if name not in knobs:
            raise unknown("knob", name, knobs)
    values = {name: convert(name, given[name], knob.type) for name, knob in knobs.items() if name in given}
    for name, knob in knobs.items():
        if name not in values and knob.default is inspect.Parameter.empty:
            raise UserError(f"knob {name!r} has no default; give --{name.replace('_', '-')}.")
        values.setdefault(name, knob.default)
    return {name: values[name] for name in knobs}


def convert(name: str, value: Any, kind: Any) -> Any:
    """`value`, converted to `kind` where it is a text; raises UserError where it does not fit.

    Kinds: str, int, float, bool, Path, Duration, Literal[...], X | None, and tuple[X, ...] (comma-separated).
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            if type(None) in inner:
                return None
        return convert(name, value, next(k for k in inner if k is not type(None)))
    if origin is typing.Literal:
        found = [choice for choice in inner if str(choice) == str(value)]
        if not found:
            raise unknown(f"value of {name}", value, inner)
        return found[0]
    if origin is tuple:
        parts = [part for part in value.strip("()").split(",") if part.strip()] if isinstance(value, str) else value
        return tuple(convert(name, part.strip() if isinstance(part, str) else part, inner[0]) for part in parts)
    if kind is bool and isinstance(value, str):
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if value.lower() not in known:
            raise UserError(f"{name} is true or false, not {value!r}.")
        return known[value.lower()]
    if kind is duration.Duration:
        return duration.parse(str(value)) if isinstance(value, str | int | float) else value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and kind in (int, float, Path):
        try:
            # 1e4 steps are meant as a whole number
            number = float(value) if kind is int and re.fullmatch(r"[+-]?\d+(\.0*)?e\+?\d+", value.lower()) else value
            return kind(number)
        except ValueError:
            raise UserError(f"{name} takes {kind_name(kind)}, not {value!r}.") from None
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UserError(f"{name} takes {kind_name(kind)}, not {value!r}.")
    return value


def add_arguments(parser: argparse.ArgumentParser, knobs: Mapping[str, Knob]):
    """Adds `--name VALUE` for every knob (and `--no-name` for a bool); values stay texts until `resolve`."""
    group = parser.add_argument_group("knobs of this experiment")
    for name, knob in knobs.items():
        shown = "required" if knob.default is inspect.Parameter.empty else f"default {knob.default}"
        text = f"{knob.help} ({shown})".strip().replace("%", "%%")
        flag = "--" + name.replace("_", "-")
        if knob.type is bool:
            group.add_argument(flag, dest=name, nargs="?", const="true", default=argparse.SUPPRESS, help=text,
                               metavar="BOOL")  # fmt: skip
            group.add_argument("--no-" + flag[2:], dest=name, action="store_const", const="false",
                               default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # fmt: skip
        else:
            kind = kind_name(knob.type)
            group.add_argument(flag, dest=name, default=argparse.SUPPRESS, metavar=kind.upper(), help=text)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError, and names the nearest flag for one that it does not know."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def parse_args(self, args=None, namespace=None):
        args = [a.split("=", 1)[0].replace("_", "-") + a[len(a.split("=", 1)[0]) :] if a.startswith("--") else a
                for a in args]  # fmt: skip
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            given = left[0].split("=")[0]
            raise UserError(f"unknown argument {given!r}.{nearest(given, flags)} See {self.prog} --help.")
        return parsed

    def error(self, message):
        raise UserError(f"{message}. See {self.prog} --help.")


def kind_name(kind) -> str:
    """A type as a person writes it: `int`, `cnn|mlp`, `float|none`, `int,...`."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "|".join(str(choice) for choice in inner)
    if origin in (typing.Union, types.UnionType):
        return "|".join(kind_name(k) if k is not type(None) else "none" for k in inner)
    if origin is tuple:
        return f"{kind_name(inner[0])},..."
    return getattr(kind, "__name__", str(kind)).lower()
