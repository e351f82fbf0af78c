"""Records at a path, whatever they are."""

import numpy as np

from research.data.readers import paths
from research.data.readers.arrays import Arrays, arrays
from research.data.readers.images import image_folder
from research.data.readers.indexed import INDEX, indexed
from research.data.readers.tables import csv, jsonl
from research.errors import UserError


def open_path(path, *, size=None):
    """The data set at a path: `.csv`, `.jsonl`, `.npz` (an array a field), what `prepare` wrote, or image folders.

    Images are brought to `size` (height, width). Raises UserError for a path that is none of these.
    """
    path = paths.existing(path, what="file or folder of records")
    if path.is_dir():
        return indexed(path) if (path / INDEX).exists() else image_folder(path, size=size)
    if path.suffix.lower() not in READERS:
        raise UserError(f"cannot read {str(path)!r}; expected {', '.join(READERS)} or a folder of class folders.")
    return READERS[path.suffix.lower()](path)


def npz(path) -> Arrays:
    """The arrays of a numpy archive, as columns. Raises UserError for a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return arrays(**{name: found[name] for name in found.files})
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a sound .npz archive: {error}") from error


READERS = {".csv": csv, ".jsonl": jsonl, ".npz": npz}
