"""Read the raw columns of a table from a file, a database or a table of another library."""

import csv
import io
import re
from collections.abc import Mapping

import numpy as np

from research.data.readers import paths
from research.data.readers.cells import MISSING, from_arrow, typed
from research.errors import UserError, unknown

DELIMITERS = ",;\t|"
SAMPLE = 2**20  # bytes, from which the delimiter is detected
LARGEST_BLOCK = 2**30  # bytes; a row must fit into a block


def read_frame(frame, *, what: str) -> dict[str, np.ndarray]:
    """Read a pandas, Polars or Arrow table, or anything else with the Arrow stream interface, or a dict of columns."""
    import pyarrow as pa

    try:
        table = pa.table(dict(frame) if isinstance(frame, Mapping) else frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        raise UserError(f"{what} cannot be read as a table: {error}.") from error
    return of_arrow(table, what=what)


def of_arrow(table, *, what: str) -> dict[str, np.ndarray]:
    """Return the raw columns of an Arrow table."""
    check_names(table.column_names, what=what)
    return {name: from_arrow(table[name], what=f"{what}, column {name!r},") for name in table.column_names}


def of_cells(table, *, what: str, kinds: Mapping[str, str], decimal: str = ".") -> dict[str, np.ndarray]:
    """Return the raw columns of an Arrow table, a part of a larger one; `kinds` are those of its schema.

    Text becomes numbers if that is the kind of its column, so that parts have one form whatever their values are.
    """
    import pyarrow as pa

    check_names(table.column_names, what=what)
    raw = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        number = kinds.get(name) in ("number", "integer") and pa.types.is_string(column.type)
        text = f"{what}, column {name!r},"
        raw[name] = typed(column, missing=(), decimal=decimal) if number else from_arrow(column, what=text)
    return raw


def check_names(names, *, what: str):
    """Raise UserError for a table without columns and for a name that occurs twice."""
    if not names:
        raise UserError(f"{what} has no columns.")
    seen = set()
    if twice := [name for name in names if name in seen or seen.add(name)]:
        raise UserError(f"{what} has the column {twice[0]!r} twice; rename one of them.")


def read_query(url: str, query: str) -> dict[str, np.ndarray]:
    """Read the result of a SQL query from the database at a SQLAlchemy URL."""
    try:
        import sqlalchemy
    except ImportError:
        raise UserError(
            "reading from a database needs the extra: pip install -e '.[table]' in the project's folder."
        ) from None
    try:
        engine = sqlalchemy.create_engine(url)
        try:
            with engine.connect() as connection:
                result = connection.execute(sqlalchemy.text(query))
                names, rows = list(result.keys()), result.fetchall()
        finally:
            engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).split("\n")[0]
        raise UserError(f"the query failed: {reason}. Query: {query}") from error
    what = "the result of the query"
    check_names(names, what=what)
    return {name: _of_objects([row[i] for row in rows], what=what) for i, name in enumerate(names)}


def read_file(path, *, missing=MISSING, **options) -> dict[str, np.ndarray]:
    """Read a table from a file, whose suffix determines the format. `options` are those of `_csv` and `_excel`."""
    what, kind = str(path), kind_of(path, options.pop("format", None))
    content = _bytes(path)
    if not content.strip():
        raise UserError(f"{what} is empty; expected a table.")
    if unused := sorted(set(options) - set(OPTIONS[kind])):
        raise UserError(
            f"{unused[0]}= is not an option of a table in {what}; it has: {', '.join(OPTIONS[kind]) or 'none'}."
        )
    if kind == "csv":
        return _csv(content, what=what, missing=missing, **options)
    if kind == "xlsx":
        return _excel(content, what=what, missing=missing, **options)
    return _arrow_file(content, kind, what=what)


def kind_of(path, stated: str | None = None) -> str:
    """Return the format of a file: the one stated, or that of its suffix, below the suffix of a compression."""
    if stated is not None:
        if stated not in OPTIONS:
            raise unknown("format of a table", stated, OPTIONS)
        return stated
    suffixes = [s for s in re.findall(r"\.\w+", str(path).lower())[-2:] if s not in COMPRESSED]
    if not suffixes or suffixes[-1] not in FORMATS:
        raise UserError(
            f"cannot read {str(path)!r} as a table; expected a file that ends in {', '.join(FORMATS)}, or format=."
        )
    return FORMATS[suffixes[-1]]


def options_for(path, options: Mapping) -> dict:
    """Return those of `options` that apply to the format of a file."""
    kind = kind_of(path, None if any(str(path).lower().endswith(s) for s in FORMATS) else options.get("format"))
    return {name: v for name, v in options.items() if name in ("missing", *OPTIONS[kind])} | {"format": kind}


OPTIONS = {
    "csv": ("delimiter", "encoding", "decimal", "names", "skip"), "xlsx": ("sheet",), "parquet": (), "jsonl": (),
}  # fmt: skip
COMPRESSED = (".gz", ".bz2")
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".tab": "csv", ".data": "csv", ".parquet": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".xlsx": "xlsx",
}  # fmt: skip


def _bytes(path) -> bytes:
    import pyarrow as pa

    if "://" in str(path):
        try:
            import fsspec
        except ImportError:
            raise UserError(
                f"reading {path} needs the extra: pip install -e '.[table]' in the project's folder."
            ) from None
        try:
            with fsspec.open(str(path), "rb", compression="infer") as file:
                return file.read()
        except FileNotFoundError:
            raise UserError(f"there is no file {path}.") from None
        except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is missing
            raise UserError(f"cannot read {path}: {error}.") from error
    file = paths.file(path, what="table")
    try:
        with pa.input_stream(str(file), compression="detect") as stream:
            return stream.read()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}.") from error


def _arrow_file(content, kind, *, what):
    import pyarrow as pa
    import pyarrow.json
    import pyarrow.parquet

    try:
        if kind == "parquet":
            return of_arrow(pa.parquet.read_table(io.BytesIO(content)), what=what)
        block = pa.json.ReadOptions(block_size=min(len(content) + 1, LARGEST_BLOCK), use_threads=False)
        return of_arrow(pa.json.read_json(io.BytesIO(content), read_options=block), what=what)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{what}: {error}.") from error


def _excel(content, *, what, missing, sheet=None):
    try:
        import openpyxl
    except ImportError:
        raise UserError(
            "reading Excel files needs the extra: pip install -e '.[table]' in the project's folder."
        ) from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises anything from KeyError to zipfile's errors for a damaged file
        raise UserError(f"{what} cannot be read as an Excel file: {error}.") from error
    if sheet is not None and sheet not in book.sheetnames:
        raise unknown(f"sheet of {what}", sheet, book.sheetnames)
    rows = [row for row in book[sheet or book.sheetnames[0]].values if any(cell is not None for cell in row)]
    header = [str(cell) for cell in rows[0]] if rows else []
    check_names(header, what=what)
    cells = zip(*rows[1:], strict=True) if rows[1:] else [()] * len(header)
    return {name: _of_objects(list(column), what=what, missing=missing) for name, column in zip(header, cells)}  # noqa: B905


def _of_objects(values, *, what, missing=MISSING):
    """Convert Python values to a raw column; values of several types are read as text."""
    import pyarrow as pa

    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return typed(pa.array([None if v is None else str(v) for v in values], pa.string()), missing=missing)
    text = pa.types.is_string(column.type)
    return typed(column, missing=missing) if text else from_arrow(column, what=what)


def _csv(content, *, what, missing, names=None, delimiter=None, encoding=None, decimal=".", skip=0):
    import pyarrow as pa
    import pyarrow.csv

    content = _utf8(content, encoding, what)
    content = content.split(b"\n", skip)[-1] if skip else content
    delimiter, count = delimiter_of(content, delimiter)
    generated = [f"f{i}" for i in range(count)]
    try:
        table = pa.csv.read_csv(
            io.BytesIO(content),
            read_options=pa.csv.ReadOptions(
                autogenerate_column_names=True, use_threads=False, block_size=min(len(content) + 1, LARGEST_BLOCK)
            ),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in generated}, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        wrong = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        if not wrong:
            raise UserError(f"{what}: {error}.") from error
        row, expected, found = wrong.groups()
        raise UserError(
            f"{what}, row {row}: {found} cells; expected {expected}, as in the first row. The delimiter is "
            f"{delimiter!r}; state another with delimiter=, or close the quotes."
        ) from error
    if names is None:
        names = [table[name][0].as_py().strip() for name in generated]
        table = table.slice(1)
    if len(names) != count:
        raise UserError(f"names= has {len(names)} names; {what} has {count} columns.")
    check_names(names, what=what)
    columns = (table[i].combine_chunks() for i in range(count))
    return {name: typed(cells, missing=missing, decimal=decimal) for name, cells in zip(names, columns, strict=True)}


def _utf8(content: bytes, encoding, what) -> bytes:
    """Return text as UTF-8 without a byte order mark. Other text than UTF-8 and UTF-16 is taken for Windows-1252."""
    if encoding is None:
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    else:
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise UserError(f"{what} is not text in the encoding {encoding!r}: {error}.") from error
    if "\0" in text:
        raise UserError(f"{what} is not text: it has the character NUL.")
    return text.encode()


def delimiter_of(content: bytes, delimiter) -> tuple[str, int]:
    """Return the delimiter and the number of cells of the first row.

    The delimiter is the one of DELIMITERS that gives the most cells, preferably as many in each row of the beginning.
    """
    sample = content[:SAMPLE].decode(errors="ignore")
    complete = len(content) <= SAMPLE
    found = {}
    limit = csv.field_size_limit(len(sample) + 1)
    try:
        for candidate in [delimiter] if delimiter else DELIMITERS:
            rows = [row for row in csv.reader(io.StringIO(sample), delimiter=candidate) if row]
            counts = [len(row) for row in (rows if complete else rows[:-1] or rows)[:200]]
            found[candidate] = (counts[0] > 1 and len(set(counts)) == 1, counts[0])
    except csv.Error as error:
        raise UserError(f"the text cannot be read as a table: {error}.") from error
    finally:
        csv.field_size_limit(limit)
    best = max(found, key=found.get)
    return best, found[best][1]
