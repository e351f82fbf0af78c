"""Open a table: a file, the result of a query, or a table of another library, with its schema."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from research.data import schema as schemas
from research.data.readers import cells, records, table_files
from research.data.readers.arrays import Subset
from research.data.stored import absent_columns, is_absent, stored
from research.errors import UserError, unknown


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table in memory; created by `table`.

    A record has all columns except the target, and instead of that "label", i32, if the target is a category, otherwise
    "target", f32 [1].

    columns: the raw columns [n] (`research.data.readers.cells`)
    schema: their content
    source: where they come from
    reading: how a file was read: the arguments of `table`
    absent: whether the table was not found while its run was opened again; it has no values (`research.data.stored`)
    """

    columns: Mapping[str, np.ndarray]
    schema: schemas.Schema
    target: str | None
    source: str
    reading: Mapping = dataclasses.field(default_factory=dict)
    absent: bool = False

    def __repr__(self):
        target = f", target {self.target}" if self.target else ""
        return f"Table({self.source}: {len(self):,} rows{target})\n{schemas.describe(self.schema)}"

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i):
        return {name: values[0] for name, values in self.take_columns(np.asarray([i])).items()}

    def take_columns(self, indices):
        """Return the records at `indices` [m] as {field: [m, ...]}. Raises UserError if one has no target."""
        taken = {name: values[indices] for name, values in self.columns.items() if name != self.target}
        if not self.target:
            return taken
        return {**taken, **self.target_field(self.columns[self.target][indices], np.asarray(indices))}

    def column(self, name):
        """Return the raw column, or a field of the records: "label", -1 without a target, or "target", NaN without."""
        if name in self.columns:
            return self.columns[name]
        if name not in ("label", "target") or not self.target:
            raise unknown("column", name, self.columns)
        known = self.known()
        field = self.target_field(self.columns[self.target][known], known)
        values = records.field(field, name)
        complete = np.full((len(self), *values.shape[1:]), -1 if name == "label" else np.nan, values.dtype)
        complete[known] = values
        return complete

    @property
    def classes(self):
        """The names of the classes of a target that is a category, or None."""
        return self.schema[self.target].categories or None if self.target else None

    def with_columns(self, **columns) -> "Table":
        """Return the table with columns [n] added or replaced, such as a target whose classes are cleaned.

        New rows need the same form; a conversion that new rows also need belongs in a step. The schema of these columns
        is inferred again.
        """
        if self.absent:
            return self
        raw = {**self.columns, **table_files.read_frame(columns, what="with_columns()")}
        found = schemas.infer({name: raw[name] for name in columns}, target=self.target)
        return dataclasses.replace(self, columns=raw, schema={**self.schema, **found})

    def known(self, *names: str) -> np.ndarray:
        """Return the rows in which the columns `names`, by default the target, are not missing, i64 ascending."""
        names = names or ((self.target,) if self.target else ())
        return np.flatnonzero(np.all([cells.present(self.column(name)) for name in names], axis=0))

    def target_field(self, values, rows) -> dict[str, np.ndarray]:
        """Return {"label": i32 [m]} or {"target": f32 [m, 1]} of raw values of the target; see `target_field`."""
        return target_field(self.schema, self.target, values, rows)


def check_numbers(data):
    """Raise UserError for a table, or a subset of one, whose text would be left out of batches."""
    while isinstance(data, Subset):
        data = data.data
    if isinstance(data, Table):
        text = {
            n: c.kind for n, c in data.schema.items() if c.kind in ("category", "text", "date") and n != data.target
        }
        if text:
            columns = ", ".join(f"{name} ({kind})" for name, kind in list(text.items())[:8])
            raise UserError(
                f"batches have numbers only, and columns of the table have none: {columns}. Make features of them: "
                "prepare = fit(train, ...), and then batches(prepare(train), size)."
            )


def target_field(schema, target: str, values: np.ndarray, rows) -> dict[str, np.ndarray]:
    """Return {"label": i32 [m]} for a target that is a category, otherwise {"target": f32 [m, 1]}.

    Raises UserError, with the row of `rows` [m], for a missing value and for a class that the schema does not have.
    """
    column = schema[target]
    if not (known := cells.present(values)).all():
        missing = rows[~known]
        raise UserError(
            f"the target {target!r} is missing in row {missing[0]}, and in {len(missing)} rows of these {len(rows)}. "
            "Select the rows that have it: subset(data, data.known())."
        )
    coded, _ = schemas.code({target: column._replace(otherwise="accept")}, {target: values})
    numbers = coded[target]
    if column.kind != "category":
        return {"target": numbers.astype(np.float32)[:, None]}
    if (other := numbers == len(column.categories)).any():
        value = cells.strings(values)[int(np.argmax(other))]
        raise unknown(f"class of the target {target!r} in row {rows[int(np.argmax(other))]}", value, column.categories)
    return {"label": numbers.astype(np.int32)}


def table(
    source, *, target: str | None = None, schema: Mapping | None = None, query: str | None = None,
    delimiter: str | None = None, encoding: str | None = None, decimal: str | None = None, names=None,
    missing=cells.MISSING, skip: int | None = None, sheet: str | None = None, format: str | None = None,
) -> Table:  # fmt: skip
    """Read a table into memory.

    source: one of
      - a path, or a URL that fsspec knows ("s3://bucket/a.parquet"), of a file of text (.csv, .tsv, .txt, .tab, .data),
        .parquet, .jsonl with flat objects, or .xlsx; text and .jsonl may be compressed (.gz, .bz2)
      - a SQLAlchemy URL ("sqlite:///shop.db"), with `query`, a SQL query
      - a pandas, Polars or Arrow table, a dict of columns, or anything with the Arrow stream interface
    target: the column to predict. In the records it is "label", i32, or "target", f32 [1]
    schema: {column: kind or Column} for columns whose schema is not to be inferred; see `research.data.schema.infer`
    format: csv, parquet, jsonl or xlsx, for a file with another suffix
    delimiter, encoding, decimal, names, skip, missing: of files of text. The delimiter is detected among , ; tab and |,
      the encoding among UTF-8, UTF-16 and Windows-1252. `decimal` is the decimal mark. `names` are the names of the
      columns of a file without a header. `skip` is the number of lines above the table. `missing` are the cells that
      mean a missing value; spaces around a cell are removed.
    sheet: the sheet of an Excel file; by default the first

    Excel, databases and object stores need the extra `table`. When a run is opened again and its file is not there,
    the result has as many rows as it had, without values (see `research.data.stored`).

    Raises UserError for a missing, empty or damaged source, rows of different lengths, a column that occurs twice,
    columns whose kind is unclear, and unknown names.
    """
    what = str(source) if isinstance(source, str) or hasattr(source, "__fspath__") else type(source).__name__
    kept = stored.get()
    reading = {
        "delimiter": delimiter, "encoding": encoding, "decimal": decimal, "names": names, "skip": skip, "sheet": sheet,
        "format": format,
    }  # fmt: skip
    reading = {name: value for name, value in reading.items() if value is not None} | {"missing": tuple(missing)}
    try:
        if query is not None:
            columns, what = table_files.read_query(str(source), query), "the result of the query"
        elif isinstance(source, str) or hasattr(source, "__fspath__"):
            columns = table_files.read_file(source, **reading)
        else:
            columns = table_files.read_frame(source, what=what)
    except UserError:
        if kept is None or not kept.preparation.schema or not is_absent(source, query):
            raise
        kept.absent.append(what)
        was = kept.preparation
        return Table(absent_columns(was), was.schema, was.target, what, absent=True)
    if not len(next(iter(columns.values()))):
        raise UserError(f"{what} has no rows; expected at least one.")
    if target is not None and target not in columns:
        raise unknown(f"target column of {what}", target, columns)
    if taken := {"label", "target"} & set(columns) - {target}:
        if target is not None:
            raise UserError(f"{what} has a column {min(taken)!r} besides the target {target!r}; rename one of them.")
    found = schemas.infer(columns, stated=schema, target=target)
    if target is not None and found[target].kind in ("text", "date", "identifier"):
        raise UserError(
            f"the target {target!r} is of kind {found[target].kind}; expected a category, integer or number."
        )
    return Table(columns, found, target, what, reading)
