"""The knobs of an experiment, which are the typed keyword arguments of its function."""

import argparse
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from research import duration
from research.errors import MASK, UserError, nearest, unknown
from research.runs import secret

KINDS = "str, int, float, bool, Path, Duration, None or a tuple of these"


class Knob(NamedTuple):
    """One keyword argument: its type, its default (`inspect.Parameter.empty` if it has none) and its help text.

    The value of a `secret` knob is stored nowhere; see `research.runs.secret`.
    """

    type: Any
    default: Any
    help: str
    secret: bool = False


def knobs_of(function: Callable) -> dict[str, Knob]:
    """Return the knobs of an experiment function. A line `name: text` in its docstring is the help of a knob.

    Raises UserError if an argument is positional or has no type annotation.
    """
    types_, annotations = (typing.get_type_hints(function, include_extras=extras) for extras in (False, True))
    knobs = {}
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is not inspect.Parameter.KEYWORD_ONLY or name not in types_:
            raise UserError(f"argument {name!r} of {function.__name__}() must be keyword-only and have a type.")
        match = re.search(rf"^\s*{name}: (.+)$", function.__doc__ or "", re.MULTILINE)
        knobs[name] = Knob(types_[name], argument.default, match.group(1).strip() if match else "",
                            secret.is_secret(name, annotations[name]))  # fmt: skip
    return knobs


def resolve(knobs: Mapping[str, Knob], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all knobs: the given ones, with strings converted to the type, and defaults for the rest.

    Raises UserError for an unknown knob, a knob without a value, or a value of the wrong type.
    """
    for name in given:
        if name not in knobs:
            raise unknown("knob", name, knobs)
    given = {**given, **_secrets(knobs, given)}
    values = {name: convert(name, given[name], knob.type) for name, knob in knobs.items() if name in given}
    for name, knob in knobs.items():
        if name not in values and knob.default is inspect.Parameter.empty:
            hint = f" or {secret.variable(name)}" if knob.secret else ""
            raise UserError(f"knob {name!r} has no default; set --{name.replace('_', '-')}{hint}.")
        values.setdefault(name, knob.default)
    return {name: values[name] for name in knobs}


def _secrets(knobs, given):
    """Return the values of the secret knobs that are given, in `given` or in the environment, as Hidden.

    Raises UserError for a value that a run folder has masked, if the environment does not have it.
    """
    values = {}
    for name, knob in knobs.items():
        value = given.get(name, secret.from_environment(name)) if knob.secret else None
        if isinstance(value, str) and value == MASK:
            value = secret.from_environment(name)
            if value is None:
                raise UserError(f"knob {name!r} is secret, and its value was not stored; set {secret.variable(name)}.")
        if isinstance(value, str):
            values[name] = value if value == knob.default else secret.Hidden(value)
    return values


def convert(name: str, value: Any, kind: Any) -> Any:
    """Convert a string to the type `kind`, or check the type of any other value. Raises UserError if it does not fit.

    Kinds: str, int, float, bool, Path, Duration, Literal[...], X | None, and tuple[X, ...] (separated by commas, or a
    JSON list).
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            if type(None) in inner:
                return None
        return convert(name, value, next(k for k in inner if k is not type(None)))
    if origin is typing.Literal:
        matches = [choice for choice in inner if str(choice) == str(value)]
        if not matches:
            raise unknown(f"value of {name}", value, inner)
        return matches[0]
    if origin is tuple:
        parts = _parts(value) if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise UserError(f"{name} must be {kind_name(kind)}, not {value!r}.")
        return tuple(convert(name, part, inner[0]) for part in parts)
    if kind is bool and isinstance(value, str):
        booleans = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if value.lower() not in booleans:
            raise UserError(f"{name} must be true or false, not {value!r}.")
        return booleans[value.lower()]
    if kind is duration.Duration:
        return duration.parse(str(value)) if isinstance(value, str | int | float) else value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and kind in (int, float, Path):
        try:
            # accept 1e4 for an int
            number = float(value) if kind is int and re.fullmatch(r"[+-]?\d+(\.0*)?e\+?\d+", value.lower()) else value
            return kind(number)
        except ValueError:
            raise UserError(f"{name} must be {kind_name(kind)}, not {value!r}.") from None
    if kind is str and re.search("[\ud800-\udfff]", str(value)):  # bytes of a command line that are not UTF-8
        raise UserError(f"{name} is {value!r}, which is not valid Unicode and cannot be written to a file.")
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UserError(f"{name} must be {kind_name(kind)}, not {value!r}.")
    return value


def _parts(text: str) -> list:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            pass
    return [part.strip() for part in text.strip("()").split(",") if part.strip()]


def plain(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Convert knobs to JSON values, from which `convert` returns equal knobs: a tuple becomes a list.

    Raises UserError for a value of a type that no knob can have.
    """
    return {name: _plain(name, value) for name, value in knobs.items()}


def _plain(name, value):
    if isinstance(value, secret.Hidden):
        return MASK
    if isinstance(value, duration.Duration | Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(name, part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no inf and no nan
    if isinstance(value, bool | int | float | str | None):
        return value
    raise UserError(f"knob {name!r} is {value!r}, of type {type(value).__name__}; expected {KINDS}.")


def as_option(value) -> str:
    """Format a JSON value of a knob as it is written on the command line: 32,64 for [32, 64]."""
    if isinstance(value, list):
        texts = [str(part) for part in value]
        simple = all(isinstance(part, int | float) or re.fullmatch(r"[\w./+-]+", str(part)) for part in value)
        return ",".join(texts) if texts and simple else json.dumps(value)
    return str(value)


def add_arguments(parser: argparse.ArgumentParser, knobs: Mapping[str, Knob]):
    """Add `--name VALUE` for every knob, and `--no-name` for a bool. Values remain strings until `resolve`."""
    group = parser.add_argument_group("knobs of this experiment")
    for name, knob in knobs.items():
        required = knob.default is inspect.Parameter.empty
        default = "required" if required else f"default {as_option(_plain(name, knob.default))}"
        default += f"; secret: better given in {secret.variable(name)}" if knob.secret else ""
        text = f"{knob.help} ({default})".strip().replace("%", "%%")
        flag = "--" + name.replace("_", "-")
        if knob.type is bool:
            group.add_argument(flag, dest=name, nargs="?", const="true", default=argparse.SUPPRESS, help=text,
                               metavar="BOOL")  # fmt: skip
            group.add_argument("--no-" + flag[2:], dest=name, action="store_const", const="false",
                               default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # fmt: skip
        else:
            group.add_argument(flag, dest=name, default=argparse.SUPPRESS, metavar=as_metavar(knob.type), help=text)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of exiting, and suggests the nearest flag for an unknown one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.help_command = f"{self.prog} --help"

    def parse_args(self, args=None, namespace=None):
        args = [a.split("=", 1)[0].replace("_", "-") + a[len(a.split("=", 1)[0]) :] if a.startswith("--") else a
                for a in args]  # fmt: skip
        # argparse takes -1e-3 and -1,2 for options.
        for i in reversed(range(len(args) - 1)):
            if re.fullmatch(r"--[^=]+", args[i]) and re.match(r"-(\.?\d|inf$)", args[i + 1]):
                args[i : i + 2] = [f"{args[i]}={args[i + 1]}"]
        self._given = args
        parsed, unparsed = self.parse_known_args(args, namespace)
        self._check_known(unparsed)
        return parsed

    def error(self, message):
        # argparse complains about a missing argument before it looks at a misspelt one.
        self._check_known([a for a in self._given if re.match("--.", a)])
        raise UserError(f"{message}. See {self.help_command}.")

    def _check_known(self, arguments):
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        for argument in (a.split("=")[0] for a in arguments):
            if argument not in flags:
                raise UserError(f"unknown argument {argument!r}.{nearest(argument, flags)} See {self.help_command}.")


def as_metavar(kind) -> str:
    """Format a type for `--help`: the choices as they are typed, or the name of the type in capitals."""
    name = kind_name(kind).removesuffix("|none")
    return name if typing.Literal in {typing.get_origin(k) for k in (kind, *typing.get_args(kind))} else name.upper()


def kind_name(kind) -> str:
    """Format a type for messages and help: `int`, `cnn|mlp`, `float|none`, `int,...`."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "|".join(str(choice) for choice in inner)
    if origin in (typing.Union, types.UnionType):
        return "|".join(kind_name(k) if k is not type(None) else "none" for k in inner)
    if origin is tuple:
        return f"{kind_name(inner[0])},..."
    return getattr(kind, "__name__", str(kind)).lower()
