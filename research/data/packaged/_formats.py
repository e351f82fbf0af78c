"""Readers of the formats of several packages. Each returns rows: the values of every record, in the file's order."""

import csv
import gzip
import importlib
import io
import lzma
import pickle

from research.errors import UserError

SPLITS = ("train", "test")


def delimited(content: bytes, *, delimiter: str = ",", header: bool = True, encoding: str = "utf-8") -> list[list[str]]:
    """Read a CSV file, which may be gzipped, as rows of stripped cells; lines without cells are left out."""
    text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode(encoding)
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [[cell.strip() for cell in row] for row in rows if row][int(header) :]


def r_table(content: bytes, name: str) -> list[tuple]:
    """Read the data frame `name` of an .rda file of R; factors are strings. Raises UserError without rdata."""
    try:
        import rdata
    except ModuleNotFoundError as error:
        raise UserError("files of R need the extra: pip install -e '.[data]' in the project's folder.") from error
    frame = rdata.conversion.convert(rdata.parser.parse_data(content), default_encoding="utf-8")[name]
    return list(zip(*(frame[column].tolist() for column in frame.columns), strict=True))


def arff(content: bytes) -> list[list]:
    """Read the data rows of an ARFF file of numbers and categories."""
    return delimited(content.partition(b"@data\n")[2], header=False)


def cut(rows, *ends: int, names=SPLITS) -> dict[str, list]:
    """Cut rows into consecutive splits: `ends` has the index after the last record of each but the last."""
    bounds = (0, *ends, len(rows))
    return {name: rows[start:end] for name, start, end in zip(names, bounds, bounds[1:], strict=False)}


def tab_splits(files: dict[str, bytes]) -> dict[str, list[list[str]]]:
    """Read NAME-train.tab and NAME-test.tab of Orange, with a label and a text, as the splits "train" and "test"."""
    return {split: next(_tab(files[name]) for name in files if name.endswith(f"-{split}.tab")) for split in SPLITS}


def _tab(content):
    """Read a .tab file. It has three header rows; rows without text are a fourth one."""
    rows = delimited(content, delimiter="\t")[2:]
    return [row for row in rows if len(row) == 2 and row[1]]


# All that a pickled pandas table of numbers and strings names. None of these can run code of the file.
PICKLED = {
    ("builtins", "slice"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.core.internals.managers", "BlockManager"),
}


class Unpickler(pickle.Unpickler):
    """Reads a pickled pandas table; any other name than those of PICKLED is an error."""

    def find_class(self, module, name):
        module = module.replace("numpy.core.", "numpy._core.")  # of numpy 1
        if (module, name) not in PICKLED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a table")
        return getattr(importlib.import_module(module), name)


def pickled_table(content: bytes) -> list[tuple]:
    """Read a pickled pandas table, compressed by xz, without its first column, which numbers the rows.

    Raises UserError without pandas, and for a pickle that names anything but parts of a table.
    """
    try:
        frame = Unpickler(io.BytesIO(lzma.decompress(content))).load()
    except ModuleNotFoundError as error:
        raise UserError("pickled tables need the extra: pip install -e '.[data]' in the project's folder.") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"the pickled table is refused: {error}.") from error
    columns = [frame[name].tolist() for name in frame.columns[1:]]
    return [tuple(v.strip() if isinstance(v, str) else v for v in row) for row in zip(*columns, strict=True)]
