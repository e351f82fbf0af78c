"""Decoded columns kept beside the records that they were decoded from: to read them again takes no second."""

import contextlib
import hashlib
import json
import os
import platform
import zipfile
from pathlib import Path

import numpy as np


def kept_file(folder, split: str) -> Path:
    """Where the columns of a split belong. Its name changes with any file of the folder."""
    files = sorted(path for path in Path(folder).iterdir() if not path.name.startswith("."))
    about = [split, [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]]
    return Path(folder, f".columns-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.npz")


def read(path: Path) -> dict[str, np.ndarray] | None:
    """The columns, or None where they are not kept or damaged (the archive has checksums)."""
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def write(path: Path, columns):
    """Keeps them if it can: not objects such as strings, and not in a folder that is read-only or full."""
    if any(column.dtype.hasobject for column in columns.values()):
        return
    part = path.with_name(f"{path.name}-{platform.node()}-{os.getpid()}")  # of this process alone
    with contextlib.suppress(OSError):
        try:
            with open(part, "wb") as file:
                np.savez(file, **columns)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
