"""Secret knobs, such as a token: their values reach the experiment, but no file, no page and no message.

A knob of type str is secret if its type is `Secret`, or if its name ends in one of `NAMES`. Its value is given on the
command line or, better, in the environment variable RESEARCH_SECRET_<NAME>, because other users of a host can see
command lines. A value that equals the default is not secret, because it is in the source.
"""

import os
import shlex
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from research import errors
from research.errors import MASK, UserError

Secret = Annotated[str, "secret"]
NAMES = ("token", "password", "passwd", "secret", "credentials", "api_key", "access_key", "secret_key", "private_key")


class Hidden(str):
    """The value of a secret knob: a string whose repr is the mask. Creating it hides the value in all output."""

    def __new__(cls, value):
        errors.hide(str(value))
        return super().__new__(cls, value)

    def __repr__(self):
        return repr(MASK)


def is_secret(name: str, hint) -> bool:
    """Return whether a knob is secret, by its type annotation or its name. None may be among its types."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    if declared := [kind for kind in kinds if "secret" in getattr(kind, "__metadata__", ())]:
        if declared[0].__origin__ is not str:
            raise UserError(f"the secret knob {name!r} has the type {declared[0].__origin__.__name__}; expected str.")
        return True
    return str in kinds and any(name == word or name.endswith(f"_{word}") for word in NAMES)


def variable(name: str) -> str:
    """Return the environment variable of a secret knob."""
    return f"RESEARCH_SECRET_{name.upper()}"


def from_environment(name: str) -> str | None:
    """Return the value of a secret knob in the environment, or None."""
    return os.environ.get(variable(name))


def pass_to_workers(values: Iterable[tuple[str, object]]):
    """Put secret knobs into the environment of this process, which its workers inherit; no file holds them."""
    for name, value in values:
        if isinstance(value, Hidden):
            os.environ[variable(name)] = str(value)


def command_line(values: Mapping[str, object]) -> str:
    """Return the command line of this process, quoted for a shell, without the values of secret knobs."""
    program, *arguments = sys.argv
    hidden = {str(value) for value in values.values() if isinstance(value, Hidden)}

    def mask(argument):
        name, equals, value = argument.partition("=")
        if argument in hidden or (equals and value in hidden):
            return f"{name}={MASK}" if value in hidden else MASK
        return errors.masked(argument)

    program = "python -m research" if Path(program).name == "__main__.py" else Path(program).name
    return shlex.join([*program.split(), *map(mask, arguments)])
