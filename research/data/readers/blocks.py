"""Read large tables in blocks of rows, in bounded memory."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from research.data.readers import paths, table_files
from research.data.readers.cells import MISSING
from research.errors import UserError

BYTES = 2**24  # of text that is parsed at once; a row must fit into it


def blocks(path, *, rows: int, **reading) -> Iterator:
    """Yield the rows of a .csv, .parquet or .jsonl file, or of all such files of a folder, as blocks of `rows` rows.

    A block is an Arrow table, or a list of dicts for .jsonl; the last one of a file may be smaller. Cells of CSV are
    strings, without the spaces around them, and null if missing. `reading` are the arguments of `table` for CSV. Text
    is UTF-8 unless `encoding` is stated.
    Raises UserError for a missing, empty or damaged file, and for files of a folder with different columns.
    """
    path = paths.existing(path, what="file or folder of records")
    files = [f for f in paths.below(path) if f.suffix.lower() in SUFFIXES] if path.is_dir() else [path]
    if not files:
        raise UserError(f"{str(path)!r} has no files of {', '.join(SUFFIXES)}.")
    first = None
    for file in files:
        kind = table_files.kind_of(file, reading.get("format"))
        if kind not in READERS:
            raise UserError(f"{str(file)!r} cannot be read in blocks; expected {', '.join(SUFFIXES)}. Convert it.")
        for block in READERS[kind](file, rows, **table_files.options_for(file, {**reading, "format": kind})):
            names = sorted(block[0]) if isinstance(block, list) else sorted(block.column_names)
            first = first or names
            if names != first:
                raise UserError(f"{str(file)!r} has the columns {names}; expected {first}, as in {str(files[0])!r}.")
            yield block


def _csv(
    file: Path, rows, *, missing=MISSING, delimiter=None, encoding=None, names=None, skip=0, decimal=".", format="csv"
):
    import pyarrow as pa
    import pyarrow.csv

    with pa.input_stream(str(file), compression="detect") as stream:
        start = stream.read(table_files.SAMPLE)
    if not start.strip():
        raise UserError(f"{file} is empty; expected a table.")
    text = start.decode(encoding or "utf-8-sig", errors="ignore").split("\n", skip)[-1]
    delimiter, count = table_files.delimiter_of(text.encode(), delimiter)
    columns = [f"f{i}" for i in range(count)]
    try:
        with pa.input_stream(str(file), compression="detect") as stream:
            reader = pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(
                    column_names=columns, skip_rows=skip, block_size=BYTES, use_threads=False,
                    encoding=encoding or "utf8",
                ),
                parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
                ),
            )  # fmt: skip
            for block in _of_size(reader, rows, header=names is None):
                if names is None:
                    names = [cell.strip() for cell in block.slice(0, 1).to_pylist()[0].values()]
                    table_files.check_names(names, what=str(file))
                    block = block.slice(1)
                if len(names) != count:
                    raise UserError(f"names= has {len(names)} names; {file} has {count} columns.")
                if len(block):
                    yield pa.table([_cells(column, missing) for column in block.columns], names=list(names))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}.") from error


def _cells(column, missing):
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.is_in(cells, value_set=pa.array(missing, pa.string())), pa.scalar(None, pa.string()), cells)


def _of_size(batches, rows, *, header: bool):
    """Yield tables of `rows` rows, the first one with one more for a header."""
    import pyarrow as pa

    held, want = [], rows + header
    for batch in batches:
        held.append(pa.table(batch))
        while sum(map(len, held)) >= want:
            whole = pa.concat_tables(held)
            yield whole.slice(0, want)
            held, want = [whole.slice(want)], rows
    if sum(map(len, held)):
        yield pa.concat_tables(held)


def _parquet(file, rows, **_):
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pa.parquet.ParquetFile(str(file)) as opened:
            for batch in opened.iter_batches(batch_size=rows, use_threads=False):
                if len(batch):
                    yield pa.table(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: {error}.") from error


def _jsonl(file, rows, **_):
    import pyarrow as pa

    with pa.input_stream(str(file), compression="detect") as stream:
        lines = enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), 1)
        parsed = (_object(file, number, line) for number, line in lines if line.strip())
        yield from iter(lambda: list(itertools.islice(parsed, rows)), [])


def _object(file, number, line):
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{file}, line {number} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}, line {number}: a {type(found).__name__}; expected a JSON object {{...}}.")
    return found


READERS = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}
SUFFIXES = tuple(suffix for suffix, kind in table_files.FORMATS.items() if kind in READERS)
