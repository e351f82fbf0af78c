"""A cache of decoded columns, stored next to the records, which loads in less than a second."""

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path

import numpy as np

from research.data.readers import records
from research.system.archive import read_npz

LENGTHS = " lengths"  # ends the name of an array that belongs to a column of strings


def kept_file(folder, split: str) -> Path:
    """Return the cache file of a split. Its name contains a hash of the folder's files, thus changes with them."""
    files = sorted(path for path in Path(folder).iterdir() if not path.name.startswith("."))
    about = [split, [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]]
    return Path(folder, f".columns-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.npz")


def read(path: Path) -> dict[str, np.ndarray] | None:
    """Read the cached columns, or return None if they are missing or damaged (the archive has checksums)."""
    try:
        with open(path, "rb") as file:
            stored = read_npz(file)
        return {name: _texts(stored, name) if name + LENGTHS in stored else stored[name]
                for name in stored if not name.endswith(LENGTHS)}  # fmt: skip
    except (OSError, ValueError):
        return None


def _texts(stored, name):
    """Return a column of strings from its UTF-8 bytes and their lengths; a length of -1 is None."""
    content, lengths = stored[name].tobytes(), stored[name + LENGTHS]
    ends = np.cumsum(np.maximum(lengths, 0)).tolist()
    starts = [0, *ends[:-1]]
    cells = zip(starts, ends, lengths.tolist(), strict=True)
    return records.objects([None if length < 0 else content[start:end].decode() for start, end, length in cells])


def _packed(columns):
    """Return the columns without objects: a column of strings becomes the two arrays that `_texts` reads."""
    packed = {}
    for name, column in columns.items():
        packed[name] = column
        if column.dtype.hasobject:
            cells = [None if value is None else value.encode() for value in column]
            packed[name] = np.frombuffer(b"".join(cell or b"" for cell in cells), np.uint8)
            packed[name + LENGTHS] = np.array([-1 if cell is None else len(cell) for cell in cells], np.int64)
    return packed


def write(path: Path, columns):
    """Cache the columns. It does nothing for objects that are not strings or None, or if the file cannot be written."""
    if not all(_storable(column) for column in columns.values()):
        return
    temporary = path.with_name(f"{path.name}-{platform.node()}-{os.getpid()}")  # unique to this process
    with contextlib.suppress(OSError):
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **_packed(columns))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _storable(column):
    return not column.dtype.hasobject or all(value is None or type(value) is str for value in column)
