"""A data set on disk with random access, converted once from a stream of any length.

The folder contains `records.array_record`, whose records are read by number, and `index.json` with the number of
records and the fields. A record is a line of JSON (field -> dtype and shape) and the bytes of its arrays. Reading it
executes no code, unlike pickle.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from typing import Any

import numpy as np

from research.data.fingerprint import hasher, of_records
from research.data.readers import paths, records
from research.errors import UserError

FORMAT = 1
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
    """Open a data set written by `write` or `prepare`. Raises UserError if it is missing or damaged."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    path = paths.folder(path, what="indexed data set")
    try:
        index = json.loads((path / INDEX).read_text())
    except FileNotFoundError:
        raise UserError(f"{str(path)!r} has no {INDEX}; expected a data set written by prepare.") from None
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
            f"{str(file)!r} is damaged: it has {size} bytes, expected {index['bytes']}; "
            "remove the folder and prepare it again."
        )
    classes = None if index["classes"] is None else tuple(index["classes"])
    reader = ArrayRecordDataSource(str(file))
    content = index.get("content")
    return Indexed(path, index["count"], tuple(index["fields"]), classes, index["origin"], content, reader)


def write(stream, path, *, classes=None, origin: str | None = None) -> Indexed:
    """Write the records of an iterable to the folder `path` and open it. The iterable is read once.

    The write is atomic: a temporary folder next to `path` is renamed at the end. Two processes may write the same path
    at once; the first to finish wins. Raises UserError if `path` exists, for an empty stream, for records that are not
    dicts of numbers, arrays and strings, and for records with different fields.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path = pathlib.Path(path).expanduser()
    if path.exists():
        raise UserError(f"{str(path)!r} exists; read it with indexed(path), or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.incomplete-{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        # group_size:1 allows reading one record without its neighbours.
        writer = ArrayRecordWriter(str(temporary / FILE), "group_size:1")
        fields, count, content = None, 0, hasher()
        try:
            for record in stream:
                # Only for its checks of the record.
                records.stack([record], [count])
                if fields is not None and tuple(sorted(record)) != fields:
                    raise UserError(f"record {count} has the fields {sorted(record)}; expected {list(fields)}.")
                fields = tuple(sorted(record))
                encoded = _encoded(record)
                writer.write(encoded)
                content.update(encoded)
                count += 1
        finally:
            writer.close()
        if not count:
            raise UserError("the stream is empty; expected at least one record.")
        size = (temporary / FILE).stat().st_size
        index = {
            "format": FORMAT,
            "count": count,
            "bytes": size,
            "fields": fields,
            "classes": classes,
            "origin": origin,
            "content": content.hexdigest(),
        }
        (temporary / INDEX).write_text(json.dumps(index, indent=1))
        for name in (FILE, INDEX):
            with open(temporary / name, "rb") as file:
                os.fsync(file.fileno())
        try:
            os.rename(temporary, path)
        except OSError:
            # Another process may have finished first; its data set is valid.
            if not (path / INDEX).exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return indexed(path)


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
