"""A data set on disk with random access, converted once from a stream of any length.

The folder contains files of array_record, whose records are read by number, and `index.json` with the files, the
number of records and the fields. `write` makes one file, `research.data.engines` one per part. A record is a line of
JSON (field -> dtype and shape) and the bytes of its arrays. Reading it executes no code, unlike pickle.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from research.data.fingerprint import hasher, of_records
from research.data.readers import paths, records
from research.errors import UserError
from research.files import atomic_write

FORMAT = 2
FILE, INDEX = "records.array_record", "index.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Indexed:
    """A data set written by `write` and opened by `indexed`.

    `origin` identifies its source data, and `content` is a hash of its records.
    """

    path: pathlib.Path
    count: int
    fields: tuple[str, ...]
    classes: tuple[str, ...] | None
    origin: str | None
    content: str | None
    reader: Any

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if not 0 <= i < self.count:
            raise IndexError(f"record {i} of {self.count} in {self.path}")
        return _decoded(self.reader[int(i)])

    def __getitems__(self, indices):
        return [_decoded(record) for record in self.reader.__getitems__([int(i) for i in indices])]

    def content_fingerprint(self):
        """Return the fingerprint from the hash that was computed while the records were written."""
        if self.content is None:  # written by an earlier version
            return of_records(self)
        fields = {"content": self.content}
        return {"records": self.count, "read": self.count, "fields": fields, "unordered": self.content}


def indexed(path) -> Indexed:
    """Open a data set written by `write`, `prepare` or an engine. Raises UserError if it is missing or damaged."""
    path = paths.folder(path, what="indexed data set")
    try:
        index = json.loads((path / INDEX).read_text())
    except FileNotFoundError:
        raise UserError(f"{str(path)!r} has no {INDEX}; expected a data set written by prepare.") from None
    except ValueError as error:
        raise UserError(
            f"{str(path / INDEX)!r} is damaged ({error}); remove the folder and prepare it again."
        ) from error
    if index["format"] not in (1, FORMAT):
        raise UserError(f"{str(path)!r} has format {index['format']}, expected {FORMAT}; prepare it again.")
    # Format 1 has one file.
    files = index["files"] if index["format"] == FORMAT else {FILE: [index["count"], index["bytes"]]}
    return opened(path, files, index)


def opened(path: pathlib.Path, files: Mapping, index: Mapping) -> Indexed:
    """Open the records of `files` {name: [records, bytes]} in a folder. Raises UserError if a file is damaged."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    for name, (_, expected) in files.items():
        size = (path / name).stat().st_size if (path / name).exists() else 0
        if size != expected:
            raise UserError(
                f"{str(path / name)!r} is damaged: it has {size} bytes, expected {expected}; "
                "remove the folder and prepare it again."
            )
    if not files:
        raise UserError(f"{str(path)!r} has no records yet.")
    classes = None if index["classes"] is None else tuple(index["classes"])
    # With its number of records, a file is not opened before one of them is read.
    reader = ArrayRecordDataSource([f"{path / name}[0:{count}]" for name, (count, _) in files.items()])
    count, content = sum(count for count, _ in files.values()), index.get("content")
    return Indexed(path, count, tuple(index["fields"]), classes, index["origin"], content, reader)


def write(stream, path, *, classes=None, origin: str | None = None) -> Indexed:
    """Write the records of an iterable to the folder `path` and open it. The iterable is read once.

    The write is atomic: a temporary folder next to `path` is renamed at the end. Two processes may write the same path
    at once; the first to finish wins. Raises UserError if `path` exists, for an empty stream, for records that are not
    dicts of numbers, arrays and strings, and for records with different fields.
    """
    path = pathlib.Path(path).expanduser()
    if path.exists():
        raise UserError(f"{str(path)!r} exists; read it with indexed(path), or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.incomplete-{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        written = write_file(enumerate(stream), temporary / FILE)
        if not written.count:
            raise UserError("the stream is empty; expected at least one record.")
        write_index(temporary, {FILE: written}, content=written.content, classes=classes, origin=origin)
        try:
            os.rename(temporary, path)
        except OSError:
            # Another process may have finished first; its data set is valid.
            if not (path / INDEX).exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return indexed(path)


class Written(NamedTuple):
    """A file of records: their number, its bytes, their fields (None without records), and a hash of them."""

    count: int
    bytes: int
    fields: tuple[str, ...] | None
    content: str


def write_file(numbered: Iterable[tuple[int, Mapping]], path) -> Written:
    """Write (number, record) to a file; the numbers are for messages. The file is on the disk itself at the end.

    Equal records give equal bytes. Raises UserError as `write` does.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    # group_size:1 allows reading one record without its neighbours.
    writer = ArrayRecordWriter(str(path), "group_size:1")
    fields, count, content = None, 0, hasher()
    try:
        for number, record in numbered:
            # Only for its checks of the record.
            records.stack([record], [number])
            if fields is not None and tuple(sorted(record)) != fields:
                raise UserError(f"record {number} has the fields {sorted(record)}; expected {list(fields)}.")
            fields = tuple(sorted(record))
            encoded = _encoded(record)
            writer.write(encoded)
            content.update(encoded)
            count += 1
    finally:
        writer.close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    return Written(count, size, fields, content.hexdigest())


def write_index(folder, files: Mapping[str, Written], *, content: str, classes, origin: str | None, **more):
    """Write `index.json` of files with the same fields, atomically; it makes them a data set. `more` is kept in it."""
    fields = next((written.fields for written in files.values()), ())
    index = {
        "format": FORMAT,
        "count": sum(written.count for written in files.values()),
        "files": {name: [written.count, written.bytes] for name, written in files.items()},
        "fields": fields,
        "classes": classes,
        "origin": origin,
        "content": content,
        **more,
    }
    with atomic_write(pathlib.Path(folder, INDEX)) as part, open(part, "w", encoding="utf-8") as file:
        file.write(json.dumps(index, indent=1))
        file.flush()
        os.fsync(file.fileno())


def _encoded(record) -> bytes:
    header, body = {}, []
    for name, value in record.items():
        kind = {str: "str", bytes: "bytes"}.get(type(value))
        try:
            data = value.encode() if kind == "str" else value if kind else np.asarray(value)
        except UnicodeEncodeError as error:
            raise UserError(f"field {name!r} is not valid text: {error}. Replace or drop the character.") from error
        if kind:
            header[name] = [kind, len(data)]
        elif data.dtype.kind in "SU":
            raise UserError(
                f"field {name!r} is an array of strings; expected one string, numbers or arrays of numbers."
            )
        else:
            header[name] = [data.dtype.str, list(data.shape)]
            data = data.tobytes()
        body.append(data)
    return json.dumps(header).encode() + b"\n" + b"".join(body)


def _decoded(data: bytes) -> dict:
    end = data.index(b"\n")
    start, record = end + 1, {}
    for name, (kind, shape) in json.loads(data[:end]).items():
        if kind in ("str", "bytes"):
            value = data[start : start + shape]
            start += shape
            record[name] = value.decode() if kind == "str" else value
        else:
            count = int(np.prod(shape))
            # Trap: a view of bytes is read-only, thus copy.
            value = np.frombuffer(data, kind, count, start).reshape(shape).copy()
            start += value.nbytes
            record[name] = value if value.ndim else value[()]
    return record
