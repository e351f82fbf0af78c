"""A fitted preparation: from the raw rows of a table to the features of a model, with numbers from training rows.

    prepare = fit(train, missing.median(flag=True), missing.most_frequent(), scale.standard(), encode.one_hot())
    source = batches(prepare(train, training=True), 128)
    test = eval_batches(prepare(test), 128)

`Experiment(preparation=prepare)` saves it with the run, as `preparation.json` and `preparation.npz`.
"""

import dataclasses
import functools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data import schema as schemas
from research.data.fitted_files import load_fitted, save_fitted
from research.data.readers import table_files
from research.data.readers.arrays import Arrays, Origin, Subset
from research.data.readers.cells import strings
from research.data.readers.table import Table, target_field
from research.data.steps import APPLIED, ROWS, Columns, Fitted, name_of, namespace
from research.errors import UserError, format_names, unknown

NAME = "preparation"  # of the files in a run folder


@dataclasses.dataclass(frozen=True, eq=False)
class Preparation:
    """Fitted steps in their order, and the schema of the table that they were fitted on; created by `fit`.

    names: of the features, in their order
    codes: {name: number of codes} of the categories that no step encoded, for embeddings
    fitted: the number of training rows
    rows: the number of rows of the table
    reading: how the file of the table was read: the arguments of `table` that were given
    target_step: the fitted step of the target, or None
    made_of: the steps as given, to recognise them
    source: the table and the rows that it was fitted on; None if it was loaded
    """

    schema: schemas.Schema
    target: str | None
    without: tuple[str, ...]
    steps: tuple[Fitted, ...]
    names: tuple[str, ...]
    codes: Mapping[str, int]
    fitted: int
    rows: int
    reading: Mapping[str, Any]
    target_step: Fitted | None
    made_of: str
    source: tuple[Table, np.ndarray] | None = None

    def __repr__(self):
        features = f"{len(self.names)} features" + (f" and {len(self.codes)} codes" if self.codes else "")
        unused = [n for n, c in self.schema.items() if n in self.without or c.kind == "identifier" and n != self.target]
        unused = f"; not used: {format_names(unused)}" if unused else ""
        return f"Preparation({len(self.steps)} steps, {features}, fitted on {self.fitted:,} rows{unused})"

    def __call__(self, data, *, training: bool | None = None) -> Arrays:
        """Return the rows of a table as features.

        data: a Table, or a subset of one
        training: whether the rows are those that `fit` received, to train on. Steps that drop rows, or that keep the
          own target of a row out of its features, do so only then. With such steps, it has to be stated for those rows

        The records have "features", f32 [features]; "codes", i32 [codes], if there are any; "label" or "target", if the
        table has the target; and the identifiers, as strings. Unexpected values are refused, or reported by a warning,
        as the schema says; see `research.data.schema.Column`.
        Raises UserError for rows that do not fit the schema, for a missing value that no step fills, and for a number
        beyond f32.
        """
        table, indices = table_rows(data)
        if table.absent:
            return self._absent(table, indices)
        if training is None and any(step.training for step in self.steps) and self._fitted_on(table, indices):
            raise UserError(
                "these are the rows that the preparation was fitted on, and a step treats them in another way than new "
                "rows. To train on them, call prepare(train, training=True); otherwise training=False."
            )
        if training and len(indices) != self.fitted:
            raise UserError(
                f"training=True with {len(indices)} rows; the preparation was fitted on {self.fitted}. Pass those rows."
            )
        raw = {name: values[indices] for name, values in table.columns.items()}
        warn = functools.partial(warnings.warn, stacklevel=4)
        return self.of_raw(raw, rows=indices, target=table.target, report=warn, training=training, table=table)

    def of_raw(
        self, raw: Mapping[str, np.ndarray], *, rows: np.ndarray, target: str | None, report, training=None, table=None
    ) -> Arrays:
        """Return raw columns {name: [n]} as features, as a call does for a table.

        `rows` [n] are the numbers of the rows in messages. `target` is the target, if `raw` has it, otherwise None.
        `report` is called with a text if values are unexpected. `table` has the rows, if there is one in memory.
        """
        columns = self.coded(raw, rows=rows, report=report)
        if training:
            columns[ROWS] = np.arange(len(rows))
        with np.errstate(over="ignore"):
            fields, left = self._applied(columns, training)
        for field, values in fields.items():
            if (wrong := ~np.isfinite(values)).any():
                row, at = np.argwhere(wrong)[0]
                raise UserError(
                    f"row {rows[left[row]]}: the feature {self._names(field)[at]!r} is {values[row, at]}, and "
                    f"{int(wrong.sum()) - 1} more are not finite. Add a step for missing values, such as "
                    "missing.median() or missing.most_frequent()."
                )
        if self.codes:
            fields["codes"] = fields["codes"].astype(np.int32)
        if target:
            fields |= self._target(target, raw[target][left], rows[left])
        for name, column in self.schema.items():
            if column.kind == "identifier" and name in raw:
                fields[name] = strings(raw[name])[left]
        classes = self.schema[target].categories or None if target else None
        fitted = self.source[1] if table is not None and self.source is not None and self.source[0] is table else None
        return Arrays(fields, classes, None if table is None else Origin(table, rows[left], fitted))

    def _absent(self, table, indices) -> Arrays:
        """Return records of the right form for a table that is not there: NaN, which no computation takes for data."""
        count = len(indices)
        fields = {"features": np.full((count, len(self.names)), np.nan, np.float32)} if self.names else {}
        if self.codes:
            fields["codes"] = np.zeros((count, len(self.codes)), np.int32)
        classes = self.schema[self.target].categories or None if self.target else None
        if classes:
            fields["label"] = table.column("label")[indices]
        elif self.target:
            fields["target"] = np.full((count, 1), np.nan, np.float32)
        return Arrays(fields, classes)

    def read(self, path) -> Arrays:
        """Return the rows of a file as features, without their target; the file has the form of the training file.

        Unexpected values are treated as in a call.
        """
        columns = table_files.read_file(path, **table_files.options_for(path, self.reading))
        return self(Table(columns, self.schema, None, str(path)))

    def _fitted_on(self, table, indices) -> bool:
        return self.source is not None and self.source[0] is table and np.array_equal(self.source[1], indices)

    def _names(self, field):
        return self.names if field == "features" else tuple(self.codes)

    def coded(self, raw: Mapping[str, np.ndarray], *, rows=None, report=warnings.warn) -> Columns:
        """Turn raw columns into the columns of numbers that `apply` takes; `rows` [n] are their numbers in messages.

        `report` is called with a text if values are unexpected.
        """
        used = {name: column for name, column in self.schema.items() if name not in (*self.without, self.target)}
        rows = np.arange(len(next(iter(raw.values())))) if rows is None else rows
        columns, problems = schemas.code(used, raw, rows=rows)
        texts = [str(problem) for problem in problems]
        if extra := [name for name in raw if name not in self.schema]:
            texts.append(f"columns that the schema does not have are not used: {format_names(extra)}")
        if texts:
            report("; ".join(texts))
        return columns

    def apply(self, columns: Columns) -> dict[str, Any]:
        """Return {"features": f32 [n, features], "codes": i32 [n, codes]} of coded columns {name: [n]}.

        A pure function of numpy or JAX arrays, without checks; a missing value that no step fills is NaN.
        """
        outputs, _ = self._applied(columns, training=False)
        return {name: x.astype(np.int32) if name == "codes" else x for name, x in outputs.items()}

    def _applied(self, columns, training):
        """Return {"features": f32 [m, features], "codes": [m, codes], NaN if missing} and their row numbers [m]."""
        columns = dict(columns)
        for step in self.steps:
            function = (step.training if training else None) or step.apply
            if function is not None:
                columns = function(columns, step.arrays, **step.settings)
        rows = columns.pop(ROWS, None)
        xp, outputs = namespace(columns), {}
        if self.names:
            outputs["features"] = xp.stack([columns[name].astype(np.float32) for name in self.names], -1)
        if self.codes:
            outputs["codes"] = xp.stack([columns[name] for name in self.codes], -1)
        return outputs, rows if rows is not None else np.arange(len(next(iter(outputs.values()))))

    def _target(self, name, values, rows):
        fields = target_field(self.schema, name, values, rows)
        if self.target_step is None:
            return fields
        step, column = self.target_step, {self.target: fields["target"][:, 0].astype(np.float64)}
        return {"target": step.apply(column, step.arrays, **step.settings)[self.target].astype(np.float32)[:, None]}

    def inverse(self, predictions):
        """Return predictions of the prepared target, numpy or JAX [...], in the unit of the table."""
        if self.target_step is None:
            return predictions
        step = self.target_step
        return step.inverse({self.target: predictions}, step.arrays, **step.settings)[self.target]

    def save(self, folder):
        """Write `preparation.json` and `preparation.npz` into a folder: numbers and names, no code."""
        steps = [*self.steps, *([self.target_step] if self.target_step else [])]
        arrays = {f"{i}/{name}": values for i, step in enumerate(steps) for name, values in step.arrays.items()}
        fields = {name: getattr(self, name) for name in PLAIN}
        saved = [{**{role: _function_name(getattr(step, role)) for role in ROLES}, "settings": step.settings}
                 for step in steps]  # fmt: skip
        about = {**fields, "schema": schemas.to_json(self.schema), "steps": saved}
        save_fitted(folder, NAME, {**about, "has_target_step": self.target_step is not None}, arrays=arrays)


PLAIN = ("target", "without", "names", "codes", "fitted", "rows", "reading", "made_of")
ROLES = ("apply", "training", "inverse")


def load_preparation(folder) -> Preparation | None:
    """Read the preparation that was saved in a folder; None if there is none. No code of the folder is executed.

    Raises UserError for a damaged file, and for the name of a function that is not one of `research.data`.
    """
    from research.data import clean, features  # noqa: F401  (registers the functions)

    files = load_fitted(folder, NAME)
    if files is None:
        return None
    about, arrays, path = files
    steps = []
    try:
        for i, saved in enumerate(about["steps"]):
            numbers = {name.partition("/")[2]: x for name, x in arrays.items() if name.partition("/")[0] == str(i)}
            steps.append(Fitted(settings=saved["settings"], arrays=numbers, **{r: _function(saved[r]) for r in ROLES}))
        fields = {name: about[name] for name in PLAIN}
        schema = schemas.from_json(about["schema"])
        target_step = steps.pop() if about["has_target_step"] else None
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error!r}.") from error
    fields |= {"without": tuple(fields["without"]), "names": tuple(fields["names"])}
    return Preparation(schema=schema, steps=tuple(steps), target_step=target_step, **fields)


def _function_name(function) -> str | None:
    if function is None:
        return None
    if APPLIED.get(name := name_of(function)) is not function:
        raise UserError(f"the function {name} is not registered with @applied; a preparation with it cannot be saved.")
    return name


def _function(name):
    if name is not None and name not in APPLIED:
        raise unknown("function of a preparation", name, APPLIED)
    return APPLIED.get(name)


def table_rows(data) -> tuple[Table, np.ndarray]:
    """Return the Table below `data` and the rows of it that `data` selects. Raises UserError if there is no Table."""
    below, indices = _below(data)
    if not isinstance(below, Table):
        raise UserError(f"expected a table, or a subset of one; got {type(below).__name__}. Make it: table(data).")
    return below, indices


def origin_of(data) -> Origin | None:
    """Return the rows of a Table that `data` selects, or was prepared from; None without a Table."""
    below, indices = _below(data)
    if isinstance(below, Arrays) and below.origin:
        return below.origin._replace(rows=below.origin.rows[indices])
    return Origin(below, indices) if isinstance(below, Table) else None


def _below(data):
    """Return the data set below all nested subsets of `data`, and the indices that they select from it."""
    indices = None
    while isinstance(data, Subset):
        indices = data.indices if indices is None else data.indices[indices]
        data = data.data
    return data, indices if indices is not None or not hasattr(data, "__len__") else np.arange(len(data))
