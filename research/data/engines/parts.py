"""Parts of an output: a piece of the source, to which a function is applied, becomes one file of records.

A part is complete once its `.json` exists, which is written last. It does not depend on who writes it: two workers may
write the same part at once, and a restart repeats only parts that are not complete.
"""

import contextlib
import fcntl
import functools
import inspect
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data import schema as schemas
from research.data.fingerprint import combine, hasher, value_bytes
from research.data.preparation import Preparation, table_rows
from research.data.readers import records, table_files
from research.data.readers.arrays import Subset, subset
from research.data.readers.indexed import Written, write_file
from research.data.readers.table import Table
from research.data.steps import ALONG_ROWS, name_of
from research.errors import UserError
from research.files import read_json, write_json

HELD = 2**18  # records of a stream that an engine with rounds holds at once
MOST = 10_000  # pieces of a round
FAILED = "failed-"


class Piece(NamedTuple):
    """The records first to last - 1 of a source. `held` has them as a list or an Arrow table; None: they are read."""

    number: int
    first: int
    last: int
    held: Any = None


Engine = Callable[[Callable[[Piece], None], Iterator[Piece]], None]


def write_part(piece: Piece, *, fn, data, folder):
    """Apply `fn` to a piece, of `data` unless it holds its records, and write the part and its `.json`.

    An error is also kept in `failed-NUMBER.json`, because engines report errors in their own forms.
    """
    file, about = part_files(folder, piece.number)
    mine = uuid.uuid4().hex[:8]
    partial, partial_about = (path.with_name(f".{path.name}-{mine}") for path in (file, about))
    try:
        problems = []
        numbers = range(piece.first, piece.last)
        written = write_file(applied(fn, piece.held, numbers, data=data, report=problems.append), partial)
        os.replace(partial, file)
        write_json(partial_about, {**written._asdict(), "mark": mark(piece), "problems": problems})
        os.replace(partial_about, about)
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        write_json(Path(folder, f"{FAILED}{piece.number:08d}.json"), {"error": text})
        raise
    finally:
        partial.unlink(missing_ok=True)


def part_files(folder, number: int) -> tuple[Path, Path]:
    """Return the files of a part: its records, and its description."""
    return Path(folder, f"part-{number:08d}.array_record"), Path(folder, f"part-{number:08d}.json")


def complete_part(folder, number: int) -> tuple[Written, Mapping] | None:
    """Return a complete part and its description, or None if it has to be written."""
    file, about = part_files(folder, number)
    if not about.exists():
        return None
    found = read_json(about)
    if not file.exists() or file.stat().st_size != found["bytes"]:
        return None
    fields = None if found["fields"] is None else tuple(found["fields"])
    return Written(found["count"], found["bytes"], fields, found["content"]), found


def mark(piece: Piece) -> str | None:
    """Return a hash of the first and the last record that a piece holds, by which a restart notices another stream."""
    if piece.held is None:
        return None
    held = piece.held if isinstance(piece.held, list) else [*piece.held[:1].to_pylist(), *piece.held[-1:].to_pylist()]
    return hasher(b"".join(value_bytes(record) for record in (held[0], held[-1]))).hexdigest()


def applied(fn, held, numbers: Sequence[int], *, data=None, report=warnings.warn) -> Iterator[tuple[int, Mapping]]:
    """Yield (number, record) of the results of `fn` for the records `held`, or for those of `data` at `numbers` [n].

    `report` is called with a text if a preparation finds unexpected values.
    Raises UserError, with the number of the record, if `fn` raises or returns anything but dicts.
    """
    if isinstance(fn, Preparation):
        yield from zip(numbers, _prepared(fn, held, numbers, data, report), strict=True)
        return
    held = records.records(data, numbers) if held is None else held
    for number, record in zip(numbers, held if isinstance(held, list) else held.to_pylist(), strict=True):
        try:
            made = fn(records.own(record))
        except Exception as error:
            text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise UserError(f"record {number}: {text}") from error
        for one in made if isinstance(made, list) else [made]:
            if not isinstance(one, Mapping):
                raise UserError(
                    f"record {number}: the function returned a {type(one).__name__}; expected a dict, or a list of "
                    "dicts, which is empty to leave the record out."
                )
            yield number, one


def _prepared(fn, held, numbers, data, report):
    """Apply a preparation to all rows at once, and yield its records."""
    rows, what = np.asarray(numbers), f"the source, records {numbers[0]} to {numbers[-1]}"
    kinds = {name: column.kind for name, column in fn.schema.items()}
    if held is None and isinstance(_base(data), Table):
        data, rows = table_rows(subset(data, rows))
        raw = {name: values[rows] for name, values in data.columns.items()}
    elif held is None or isinstance(held, list):
        dicts = records.checked(records.records(data, numbers) if held is None else held, numbers)
        raw = table_files.read_frame({name: [row[name] for row in dicts] for name in dicts[0]}, what=what)
    else:
        raw = table_files.of_cells(held, what=what, kinds=kinds, decimal=fn.reading.get("decimal", "."))
    found = fn.of_raw(raw, rows=rows, target=fn.target if fn.target in raw else None, report=report)
    return (found[i] for i in range(len(found)))


def _base(data):
    while isinstance(data, Subset):
        data = data.data
    return data


def check_function(fn, data=None):
    """Raise UserError for a function that cannot be applied to parts of `data`."""
    if not callable(fn):
        raise UserError(f"fn is a {type(fn).__name__}; expected a function of a record, or a preparation of fit().")
    if not isinstance(fn, Preparation):
        return
    along = [step for step in fn.steps if step.apply and name_of(step.apply) in ALONG_ROWS]
    if along:
        raise UserError(
            f"the preparation has a step that needs all rows at once ({name_of(along[0].apply)}), and parts are "
            "prepared one by one. Use another step, such as missing.median() for missing values, or prepare in memory."
        )
    if fn.source is not None and fn.source[0] is _base(data) and any(step.training for step in fn.steps):
        raise UserError(
            "this is the table that the preparation was fitted on, and a step treats its rows in another way than new "
            "rows. Prepare them in memory: prepare(train, training=True)."
        )


def identity(fn) -> str:
    """Return a hash of a function: its name and source, or the numbers of a preparation."""
    if isinstance(fn, Preparation):
        arrays = [(name, np.asarray(x).tobytes()) for step in fn.steps for name, x in sorted(step.arrays.items())]
        return combine([fn.made_of, fn.names, arrays, fn.target, sorted(schemas.to_json(fn.schema).items())])
    if isinstance(fn, functools.partial):
        return combine([identity(fn.func), fn.args, sorted(fn.keywords.items())])
    try:
        source = inspect.getsource(fn)
    except (OSError, TypeError):
        source = ""  # such as a builtin function, or a callable object
    return combine([getattr(fn, "__module__", ""), getattr(fn, "__qualname__", type(fn).__qualname__), source])


def joined(parts: Iterable[tuple[str, Written]]) -> dict[str, Written]:
    """Return the parts with records as {file: Written}. Raises UserError if their fields differ."""
    files = {name: written for name, written in parts if written.count}
    fields = {name: written.fields for name, written in files.items()}
    for name, found in fields.items():
        if found != (first := next(iter(fields.values()))):
            raise UserError(f"{name} has the fields {list(found)}; expected {list(first)}, as in the first part.")
    return files


def rounds(pieces: Iterable[Piece], *, held: int) -> Iterator[list[Piece]]:
    """Yield the pieces in lists for engines with jobs; a list holds about `held` records of a stream at most."""
    chosen, count = [], 0
    for piece in pieces:
        chosen.append(piece)
        count += 0 if piece.held is None else len(piece.held)
        if count >= held or len(chosen) == MOST:
            yield chosen
            chosen, count = [], 0
    if chosen:
        yield chosen


def missing_engine(package: str, extra: str, *, hint: str = "") -> UserError:
    """Return the error for an engine whose package is not installed; `hint` follows the command."""
    return UserError(
        f"the engine {extra} needs the package {package}: pip install -e '.[{extra}]' in the project's folder{hint}."
    )


@contextlib.contextmanager
def one_writer(folder: Path):
    """Lock a folder for this process. Raises UserError if another process holds it."""
    with open(folder / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing {str(folder)!r}; wait until it has ended.") from None
        yield


LOCK = ".lock"


def check_same(path: Path, now: Mapping[str, Any], was: Mapping[str, Any]):
    """Raise UserError if an output was begun with other arguments than `now`, naming the first that differs."""
    now = json.loads(json.dumps(now))
    for name, value in now.items():
        if value != was.get(name):
            raise UserError(
                f"{str(path)!r} was begun with another {name} ({was.get(name)!r}; now {value!r}). Continue with the "
                "same, or remove the folder to begin again."
            )
