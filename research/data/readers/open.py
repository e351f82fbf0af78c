"""Open a data set at a path; the suffix or the folder's content determines the format."""

import numpy as np

from research.data.readers import paths
from research.data.readers.arrays import Arrays, arrays
from research.data.readers.images import image_folder
from research.data.readers.indexed import INDEX, indexed
from research.data.readers.tables import csv, jsonl
from research.errors import UserError


def open_path(path, *, size=None):
    """Open the data set at a path, a file or a folder.

    Files are `.csv`, `.jsonl` or `.npz` (one array per field). Folders are image folders or the output of `prepare`.
    Images are resized and cropped to `size`, as in `image_folder`. Raises UserError for a missing path and for any
    other format.
    """
    path = paths.existing(path, what="file or folder of records")
    if path.is_dir():
        return indexed(path) if (path / INDEX).exists() else image_folder(path, size=size)
    if path.suffix.lower() not in READERS:
        raise UserError(f"cannot read {str(path)!r}; expected {', '.join(READERS)} or a folder of class folders.")
    return READERS[path.suffix.lower()](path)


def npz(path) -> Arrays:
    """Read a numpy archive: each array is a column. Raises UserError for a damaged archive."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return arrays(**{name: archive[name] for name in archive.files})
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npz archive: {error}") from error


READERS = {".csv": csv, ".jsonl": jsonl, ".npz": npz}
