"""A data set on disk with random access: what a stream of unknown length is converted into, once.

A folder with `records.array_record` (one record after another, read by number) and `index.json` (how many, which
fields). A record is a line of JSON (field -> dtype and shape), then the bytes of its arrays; nothing in it is code.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from typing import Any

import numpy as np

from research.data.readers import paths, records
from research.errors import UserError

FORMAT = 1
FILE, INDEX = "records.array_record", "index.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Indexed:
    """A data set that `write` wrote; `origin` says from what. Made by `indexed`."""

    path: pathlib.Path
    count: int
    fields: tuple[str, ...]
    classes: tuple[str, ...] | None
    origin: str | None
    reader: Any

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if not 0 <= i < self.count:
            raise IndexError(f"record {i} of {self.count} in {self.path}")
        return _decoded(self.reader[int(i)])

    def __getitems__(self, indices):
        return [_decoded(record) for record in self.reader.__getitems__([int(i) for i in indices])]


def indexed(path) -> Indexed:
    """Opens a data set that `write` or `prepare` wrote. Raises UserError where there is none or it is damaged."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    path = paths.folder(path, what="indexed data set")
    try:
        index = json.loads((path / INDEX).read_text())
    except FileNotFoundError:
        raise UserError(f"{str(path)!r} has no {INDEX}: it is not a data set that prepare wrote.") from None
    except ValueError as error:
        raise UserError(
            f"{str(path / INDEX)!r} is damaged ({error}); remove the folder and prepare it again."
        ) from error
    if index["format"] != FORMAT:
        raise UserError(f"{str(path)!r} has format {index['format']}, expected {FORMAT}; prepare it again.")
    file = path / FILE
    size = file.stat().st_size if file.exists() else 0
    if size != index["bytes"]:
        raise UserError(
            f"{str(file)!r} has {size} bytes, {index['bytes']} were written: it is damaged; "
            "remove the folder and prepare it again."
        )
    classes = None if index["classes"] is None else tuple(index["classes"])
    reader = ArrayRecordDataSource(str(file))
    return Indexed(path, index["count"], tuple(index["fields"]), classes, index["origin"], reader)


def write(stream, path, *, classes=None, origin: str | None = None) -> Indexed:
    """Writes the records of an iterable, read once from end to end, to the folder `path`; gives it opened.

    Complete or absent: it is written beside `path` and renamed. Two processes may do so at once: the first wins.
    Raises UserError where `path` exists, for records that are not dicts of numbers, arrays and strings or whose
    fields differ, and for an empty stream.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path = pathlib.Path(path).expanduser()
    if path.exists():
        raise UserError(f"{str(path)!r} exists; read it with indexed(path), or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.incomplete-{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        # group_size:1, so that one record can be read without its neighbours.
        writer = ArrayRecordWriter(str(temporary / FILE), "group_size:1")
        fields, count = None, 0
        try:
            for record in stream:
                # Checks the record, and its fields against the first one's.
                records.stack([record], [count])
                if fields is not None and tuple(sorted(record)) != fields:
                    raise UserError(f"record {count} has the fields {sorted(record)}, record 0 {list(fields)}.")
                fields = tuple(sorted(record))
                writer.write(_encoded(record))
                count += 1
        finally:
            writer.close()
        if not count:
            raise UserError("the stream is empty: there is no record to write.")
        size = (temporary / FILE).stat().st_size
        index = {
            "format": FORMAT,
            "count": count,
            "bytes": size,
            "fields": fields,
            "classes": classes,
            "origin": origin,
        }
        (temporary / INDEX).write_text(json.dumps(index, indent=1))
        for name in (FILE, INDEX):
            with open(temporary / name, "rb") as file:
                os.fsync(file.fileno())
        try:
            os.rename(temporary, path)
        except OSError:
            # Another process was first.
            if not (path / INDEX).exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return indexed(path)


def _encoded(record) -> bytes:
    header, body = {}, []
    for name, value in record.items():
        kind = {str: "str", bytes: "bytes"}.get(type(value))
        data = value.encode() if kind == "str" else value if kind else np.asarray(value)
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
    at, record = end + 1, {}
    for name, (kind, shape) in json.loads(data[:end]).items():
        if kind in ("str", "bytes"):
            value = data[at : at + shape]
            at += shape
            record[name] = value.decode() if kind == "str" else value
        else:
            count = int(np.prod(shape))
            # Copied: a view of bytes could not be written into.
            value = np.frombuffer(data, kind, count, at).reshape(shape).copy()
            at += value.nbytes
            record[name] = value if value.ndim else value[()]
    return record
