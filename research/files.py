"""Files that are replaced in one piece, JSON in them, streams that may break, errors of the file system in words."""

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


class Patient:
    """A stream that falls silent when it breaks: a closed terminal, a pipe into `head` or a full disk ends no command.

    A character that the stream's encoding lacks is written as "?".
    """

    def __init__(self, stream):
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text):
        try:
            return self.stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        except (OSError, ValueError):  # ValueError: it was closed
            return len(text)

    def flush(self):
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def isatty(self):
        try:
            return self.stream.isatty()
        except (AttributeError, ValueError):
            return False

    def __getattr__(self, name):
        return getattr(self.stream, name)


def number(value) -> float | None:
    """`value` where it is a finite number, else None: null in the record, NaN, or what is no number at all."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if sound else None
