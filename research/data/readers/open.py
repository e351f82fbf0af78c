"""Open a data set at a path; the suffix or the folder's content determines the format."""

from research.data.readers import paths
from research.data.readers.arrays import Arrays, of_columns
from research.data.readers.images import image_files, image_folder
from research.data.readers.indexed import INDEX, indexed
from research.data.readers.jsonl import jsonl
from research.data.readers.table import table
from research.data.readers.table_files import FORMATS
from research.errors import UserError
from research.system.archive import read_npz


def open_path(path, *, size=None, channels: int = 3):
    """Open the data set at a path, a file or a folder.

    Files are `.jsonl`, `.npz` (one array per field) or a table, such as `.csv`, `.parquet` or `.xlsx`. Folders are the
    output of `prepare`, or contain images: in one sub-folder per class, or directly and thus without labels. `size` and
    `channels` are as in `image_folder`.
    Raises UserError for a missing path and for any other format.
    """
    path = paths.existing(path, what="file or folder of records")
    if path.is_dir():
        if (path / INDEX).exists():
            return indexed(path)
        flat = not any(f.is_dir() and not f.name.startswith(".") for f in path.iterdir())
        return (image_files if flat else image_folder)(path, size=size, channels=channels)
    if path.suffix.lower() not in READERS:
        raise UserError(f"cannot read {str(path)!r}; expected {', '.join(READERS)} or a folder of class folders.")
    return READERS[path.suffix.lower()](path)


def npz(path) -> Arrays:
    """Read a numpy archive: each array is a column. Raises UserError for a damaged archive."""
    try:
        with open(path, "rb") as file:
            columns = read_npz(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as an .npz archive of arrays: {error}.") from error
    return of_columns(columns)


READERS = {**dict.fromkeys(FORMATS, table), ".jsonl": jsonl, ".npz": npz}
