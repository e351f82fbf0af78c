"""Atomic file replacement, JSON files, streams that may close, and messages for file-system errors."""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import stat
import textwrap
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.errors import UserError, masked, printable

CHECKSUM = "crc32"
MOST_JSON = 64 * 2**20  # bytes of a file that is parsed as one JSON value
MOST_TEXT = 512 * 2**20  # bytes of any other text file of a run
DEEPEST = 64  # nested folders that are entered; `os.walk` of Python 3.11 recurses
COLOURS = r"\x1b\[[\d;]*m"
MOVEMENTS = r"[\r\n]*(?:\x1b\[A)*"  # a write of these alone cannot overwrite a line with other text
FOREIGN = ("wandb", "journal.log.lock")  # in a run or sweep folder, but other programs' own; they contain links


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
    """Write JSON atomically. NaN and inf become null. An object gets the entry `crc32`, a checksum of the others.

    A killed process or a power cut leaves either the old file or the new one.
    """
    if isinstance(value, Mapping):
        value = {name: part for name, part in value.items() if name != CHECKSUM}
        value[CHECKSUM] = _checksum(json.loads(to_json(value)))
    with atomic_write(path) as part, open(part, "w", encoding="utf-8") as file:
        file.write(to_json(value, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def to_json(value, **options) -> str:
    """Format a value as JSON. NaN and infinities, which JSON does not have, become null; secret values are masked."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value):
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, str):
        return masked(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _checksum(value) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def parse_json(text: str) -> Any:
    """Parse JSON, and remove the checksum of an object that has one. Raises ValueError if it does not match."""
    value = json.loads(text)
    if isinstance(value, dict) and value.pop(CHECKSUM, None) not in (None, _checksum(value)):
        raise ValueError(f"its checksum does not match. If you edited it, remove its entry {CHECKSUM!r}")
    return value


def read_json(path) -> Any:
    """Read a JSON file. Raises UserError if it is damaged."""
    try:
        return parse_json(read_text(path, most=MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def open_regular(path):
    """Open a file to read bytes. Raises OSError for a link, and for a pipe or a device, which could block forever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", str(path)) from None
    file = open(descriptor, "rb") if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    if file is None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def read_text(path, *, most: int = MOST_TEXT, errors: str = "strict") -> str:
    """Read a UTF-8 file. Raises OSError as `open_regular` does, and if it has more than `most` bytes."""
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, expected at most {most}", str(path))
        return file.read(most).decode("utf-8", errors)


def check_regular(folder, *, shallow: tuple[str, ...] = ()):
    """Raise UserError if a run or sweep folder contains a link, a pipe or a device.

    A link in a folder from elsewhere can point at any file of this user: a report would show it, and a write would
    overwrite it. Subfolders named in `shallow` are not entered, nor is what belongs to other programs (`FOREIGN`).
    """
    for current, subfolders, _ in os.walk(folder):
        top = Path(current) == Path(folder)
        with contextlib.suppress(FileNotFoundError), os.scandir(current) as entries:  # a run in progress deletes files
            for entry in entries:
                if (top and entry.name.startswith(FOREIGN)) or entry.is_dir(follow_symlinks=False):
                    continue
                if not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                    kind = "a symbolic link" if entry.is_symlink() else "a pipe or a device"
                    raise UserError(f"{entry.path} is {kind}; expected only files and folders in {folder}.")
        if len(Path(current).parts) - len(Path(folder).parts) > DEEPEST:
            raise UserError(f"{folder} has more than {DEEPEST} nested folders.")
        if top:
            subfolders[:] = [name for name in subfolders if not name.startswith(FOREIGN) and name not in shallow]


@contextlib.contextmanager
def file_errors(path):
    """Convert a file-system error, such as a full disk, to a UserError that names the undamaged files and a fix."""
    try:
        yield
    except OSError as error:
        saved = f"The files saved in {path} are intact; fix" if Path(path).exists() else "Fix"
        raise UserError(
            f"{error.filename or path}: {error.strerror or error}. {saved} the problem and run the same command again, "
            "or choose another folder."
        ) from error


class TolerantStream:
    """A stream that ignores write errors: a closed terminal, a pipe into `head` or a full disk does not end a command.

    A character that the encoding of the stream cannot represent is written as "?", and a control character as U+FFFD
    unless `controls`, for a live display. Colours, and the movements by which a library redraws its progress bars, are
    kept. On a terminal, lines that are too long are wrapped between words.
    """

    def __init__(self, stream, *, controls: bool = False):
        self.stream = stream.stream if isinstance(stream, TolerantStream) else stream
        self.controls = controls
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text):
        if not self.controls and not re.fullmatch(MOVEMENTS, text):
            start = text[:1] if text.startswith("\r") else ""
            text = start + "".join(
                part if re.fullmatch(COLOURS, part) else printable(part)
                for part in re.split(f"({COLOURS})", text.removeprefix(start))
            )
        if self.isatty() and "\x1b" not in text and "\r" not in text:  # a live line fits by itself
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
    """Wrap a line. In a table, with columns two spaces apart, it continues below a column of the left half."""
    columns = [match.end() for match in re.finditer(r"(?<=\S) {2,}(?=\S)", line) if match.end() <= width // 2]
    indent = max(columns, default=len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False,
    )  # fmt: skip


def number(value) -> float | None:
    """Return `value` as a float if it is a finite number, otherwise None (null in the record, NaN, any other type)."""
    try:
        converted = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer beyond the range of a float
        return None
    return converted if math.isfinite(converted) else None
