"""Records at a path, whatever they are."""

import numpy as np

from research.data import paths
from research.data.images import image_folder
from research.data.indexed import INDEX, indexed
from research.data.sources import arrays
from research.data.tables import csv, jsonl
from research.errors import UserError


def open_path(path, *, size=None):
    """The data set at a path: `.csv`, `.jsonl`, `.npz` (an array a field), what `prepare` wrote, or image folders.

    Images are brought to `size` (height, width). Raises UserError for a path that is none of these.
    """
    path = paths.existing(path, what="file or folder of records")
    if path.is_dir():
        return indexed(path) if (path / INDEX).exists() else image_folder(path, size=size)
    known = {".csv": csv, ".jsonl": jsonl, ".npz": lambda file: arrays(**np.load(file))}
    if path.suffix not in known:
        raise UserError(f"{path}: expected a folder, or a file that ends in {', '.join(known)}.")
    return known[path.suffix](path)
