"""Apply a pure function to all records of a source of any size, and write an indexed set."""

import itertools
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from research.data.engines import parts
from research.data.engines.local import local
from research.data.engines.parts import FAILED, Engine, Piece
from research.data.fingerprint import combine, fingerprint, of_records, spaced
from research.data.preparation import Preparation
from research.data.readers import paths, records
from research.data.readers.arrays import class_names, data_set
from research.data.readers.blocks import blocks
from research.data.readers.indexed import INDEX, Indexed, indexed, write_index
from research.errors import UserError, format_names
from research.files import read_json, sync_folder, write_json

JOB = "job.json"


def map_records(
    fn: Callable, source, out, engine: Engine | None = None, *, part_size: int = 4096, classes=None
) -> Indexed:
    """Apply `fn` to every record of `source`, and write the results in their order to the indexed set `out`.

    fn: `fn(record) -> record`, a pure function; it may return a list of records, which is empty to leave a record out.
      Or a fitted Preparation, which treats the records as new rows of its table
    source: one of
      - a data set, with `len()` and `[i]`. The workers read their records themselves
      - an iterable of records, or a generator of any length. It is read once, in this process; to continue, the same
        call needs the same records from the beginning. A finished result is recognised by the first part
      - a path of a large .csv, .parquet or .jsonl file, or a folder of such files: a record is a row. Cells of CSV are
        strings, None if missing, but a preparation gets them in the types of its schema
    out: the folder of the result, on a disk that all workers share
    engine: `local()`, `beam()`, `spark()` or `ray()`; all give the same bytes
    part_size: records of the source per part. A part is one task and one file; memory is a few parts per worker
    classes: the names of the classes of the field `label`; by default those of the source or of the preparation

    The same call continues where a killed one stopped. Until the end, everything is in `OUT.incomplete`, which
    `indexed` refuses; then the folder is renamed. If `out` is there already, made by the same call, it is opened.

    Raises UserError for an error in `fn`, with the number of the record; for records that cannot be stored, an empty
    source and an empty result; and if `out`, or its unfinished part, was made of another source or function. Unexpected
    values that a preparation reports are one warning, and are listed in `index.json`.
    """
    out = Path(out).expanduser()
    data, stream, origin = _opened(source, fn, part_size)
    parts.check_function(fn, data)
    function = parts.identity(fn)
    if isinstance(fn, Preparation):
        fn = replace(fn, source=None)  # the training table stays here
        classes = classes or (fn.schema[fn.target].categories or None if fn.target else None)
    elif classes is None and data is not None:
        classes = class_names(data)
    classes = None if classes is None else list(map(str, classes))
    about = {"part_size": part_size, "source": origin, "function": function, "classes": classes}
    key = combine(sorted(about.items()))
    if out.exists():
        return _finished(out, key)
    folder = out.with_name(f"{out.name}.incomplete")
    folder.mkdir(parents=True, exist_ok=True)
    with parts.one_writer(folder):
        if out.exists():  # another process has just finished
            shutil.rmtree(folder)
            return _finished(out, key)
        if not (folder / INDEX).exists():
            _begin(folder, about)
            count = _write_parts(engine or local(), fn, data, stream, folder, part_size)
            _index(folder, count, classes, key)
        elif indexed(folder).origin != key:
            raise UserError(f"{str(folder)!r} was made of another source or function; remove it first.")
        for file in folder.iterdir():
            if file.suffix != ".array_record" and file.name != INDEX:
                file.unlink()
        sync_folder(folder)
        os.rename(folder, out)
        sync_folder(out.parent)
    return indexed(out)


def _opened(source, fn, part_size):
    """Return (data set or None, iterable of lists and Arrow tables or None, identity of the source)."""
    if isinstance(source, str | os.PathLike):
        path = paths.existing(source, what="file or folder of records")
        if (path / INDEX).exists():
            source = indexed(path)
        else:
            reading = fn.reading if isinstance(fn, Preparation) else {}
            return None, blocks(path, rows=part_size, **reading), paths.fingerprint(path)
    if hasattr(source, "__next__") or not hasattr(source, "__len__") and isinstance(source, Iterable):
        rows = iter(source)
        stream = iter(lambda: list(itertools.islice(rows, part_size)), [])
        first = next(stream, [])
        origin = parts.mark(Piece(0, 0, len(first), first)) if first else None
        return None, itertools.chain([first] if first else [], stream), origin
    data = data_set(source)
    if isinstance(data, Indexed):
        return data, None, combine(sorted(fingerprint(data).items()))
    count = len(data)
    sample = records.records(data, spaced(count))
    named = all(isinstance(row, dict) for row in sample)
    return data, None, combine([count, of_records(sample)["fields"] if named else sample])


def _finished(out, key):
    data = indexed(out)
    if data.origin != key:
        raise UserError(f"{str(out)!r} was made of another source or function; remove it, or choose another folder.")
    return data


def _begin(folder, about):
    """Check that the parts of an earlier process are of the same job, and forget its errors."""
    if (folder / JOB).exists():
        parts.check_same(folder, about, read_json(folder / JOB))
    write_json(folder / JOB, about)
    for file in [*folder.glob(f"{FAILED}*"), *folder.glob(".part-*")]:
        file.unlink()


def _write_parts(engine, fn, data, stream, folder, part_size) -> int:
    """Write the parts that are not complete, and return the number of all parts."""
    numbers = itertools.count()
    found = _ranges(len(data), part_size) if stream is None else _held(stream)
    counted = (piece for piece, _ in zip(found, numbers, strict=False))
    todo = (piece for piece in counted if not _is_complete(folder, piece))
    try:
        engine(partial(parts.write_part, fn=fn, data=data, folder=str(folder)), todo)
    except UserError:
        raise
    except Exception as error:
        if failed := sorted(folder.glob(f"{FAILED}*")):
            raise UserError(read_json(failed[0])["error"]) from error
        raise UserError(
            f"the engine stopped: {type(error).__name__}: {str(error).strip().split(chr(10))[0]}. Finished parts are "
            f"in {str(folder)!r}; the same call continues."
        ) from error
    return next(numbers)


def _ranges(count, size) -> Iterator[Piece]:
    for number, first in enumerate(range(0, count, size)):
        yield Piece(number, first, min(first + size, count))


def _held(stream) -> Iterator[Piece]:
    first = 0
    for number, held in enumerate(stream):
        yield Piece(number, first, first + len(held), held)
        first += len(held)


def _is_complete(folder, piece) -> bool:
    if (complete := parts.complete_part(folder, piece.number)) is None:
        return False
    if complete[1]["mark"] != parts.mark(piece):
        raise UserError(
            f"the records {piece.first} to {piece.last - 1} of the source differ from those of the unfinished call in "
            f"{str(folder)!r}. Continue with the same source, or remove the folder to begin again."
        )
    return True


def _index(folder, count, classes, key):
    """Make the parts a data set. Raises UserError if one is missing, and if there is no record."""
    found, problems = [], {}
    for number in range(count):
        part = parts.complete_part(folder, number)
        if part is None:
            raise UserError(f"the engine ended without part {number} of {count}; the same call writes it.")
        found.append((parts.part_files(folder, number)[0].name, part[0]))
        if part[1]["problems"]:
            problems[number] = part[1]["problems"]
    if not count:
        raise UserError("the source is empty; expected at least one record.")
    if parts.part_files(folder, count)[1].exists():
        raise UserError(
            f"the source has {count} parts, fewer than in the unfinished call in {str(folder)!r}. Continue with the "
            "same source, or remove the folder to begin again."
        )
    files = parts.joined(found)
    if not files:
        raise UserError(f"the function left out all records of {count} parts; expected at least one.")
    for name, _ in found:
        if name not in files:
            (folder / name).unlink()
    if problems:
        texts = list(dict.fromkeys(text for part in problems.values() for text in part))
        warnings.warn(f"in {len(problems)} of {count} parts: {format_names(texts, 5)}", stacklevel=4)
    content = combine([written.content for written in files.values()])
    write_index(folder, files, content=content, classes=classes, origin=key, problems=problems)
