"""A cache of decoded columns, stored next to the records, which loads in less than a second."""

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path

import numpy as np

from research.system.archive import read_npz


def kept_file(folder, split: str) -> Path:
    """Return the cache file of a split. Its name contains a hash of the folder's files, thus changes with them."""
    files = sorted(path for path in Path(folder).iterdir() if not path.name.startswith("."))
    about = [split, [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]]
    return Path(folder, f".columns-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.npz")


def read(path: Path) -> dict[str, np.ndarray] | None:
    """Read the cached columns, or return None if they are missing or damaged (the archive has checksums)."""
    try:
        with open(path, "rb") as file:
            return read_npz(file)
    except (OSError, ValueError):
        return None


def write(path: Path, columns):
    """Cache the columns. It does nothing for object columns, such as strings, or if the file cannot be written."""
    if any(column.dtype.hasobject for column in columns.values()):
        return
    temporary = path.with_name(f"{path.name}-{platform.node()}-{os.getpid()}")  # unique to this process
    with contextlib.suppress(OSError):
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **columns)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
