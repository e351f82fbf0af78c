"""Files that are replaced in one piece, JSON in them, and errors of the file system in words."""

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from research.errors import UserError


@contextlib.contextmanager
def replacing(path):
    """A temporary path beside `path` that takes its place when the block ends well: never half a file."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    yield part
    os.replace(part, path)


def write_json(path, value):
    """Writes JSON so that a kill leaves either the old file or the new one."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path) -> Any:
    """The JSON in a file. Raises UserError where it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


@contextlib.contextmanager
def file_errors(path):
    """Errors of the file system, such as a full disk, as a UserError that says what is still good."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: {error.strerror or error}. What is saved in {path} is untouched; "
            "mend this and give the same command again."
        ) from error


def number(value) -> float | None:
    """`value` where it is a finite number, else None: null in the record, NaN, or what is no number at all."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if sound else None
