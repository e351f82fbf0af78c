"""Atomic file replacement, JSON files, streams that may close, and messages for file-system errors."""

import contextlib
import json
import math
import os
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError


@contextlib.contextmanager
def atomic_write(path):
    """Replace a file atomically: yield a temporary path, and rename it to `path` if the block succeeds."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    yield part
    os.replace(part, path)


def sync_tree(folder):
    """Write all files and folders below `folder` to the disk itself, so that they survive a power cut."""
    for current, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(current, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(current)


def sync_folder(folder):
    """Write the names in a folder to the disk: files that were created, renamed or deleted there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path, value):
    """Write JSON atomically. NaN and inf become null.

    A killed process or a power cut leaves either the old file or the new one.
    """
    with atomic_write(path) as part, open(part, "w", encoding="utf-8") as file:
        file.write(to_json(value, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def to_json(value, **options) -> str:
    """Format a value as JSON. NaN and infinities, which JSON does not have, become null."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value):
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path) -> Any:
    """Read a JSON file. Raises UserError if it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


@contextlib.contextmanager
def file_errors(path):
    """Convert a file-system error, such as a full disk, to a UserError that names the undamaged files and a fix."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: {error.strerror or error}. The files saved in {path} are intact; "
            "fix the problem and run the same command again."
        ) from error


class TolerantStream:
    """A stream that ignores write errors: a closed terminal, a pipe into `head` or a full disk does not end a command.

    A character that the encoding of the stream cannot represent is written as "?". On a terminal, lines that are too
    long are wrapped between words.
    """

    def __init__(self, stream):
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text):
        if self.isatty() and "\x1b" not in text and "\r" not in text:  # not the live line, which fits by itself
            width = shutil.get_terminal_size().columns
            text = "\n".join(_wrapped(line, width) if len(line) > width else line for line in text.split("\n"))
        try:
            return self.stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        except (OSError, ValueError):  # ValueError: the stream is closed
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


def _wrapped(line, width):
    indent = len(line) - len(line.lstrip()) + 4
    return textwrap.fill(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False,
    )  # fmt: skip


def number(value) -> float | None:
    """Return `value` as a float if it is a finite number, otherwise None (null in the record, NaN, any other type)."""
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if finite else None
