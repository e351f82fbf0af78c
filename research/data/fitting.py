"""Fitting a preparation: steps in their order, each on the training rows as the steps before it leave them."""

import json

import numpy as np

from research.data import schema as schemas
from research.data.preparation import Preparation, table_rows
from research.data.readers.table import target_field
from research.data.steps import ROWS, Feature, Frame, Step
from research.data.stored import stored
from research.errors import UserError, format_names, unknown


def fit(train, *steps: Step, without=(), target: Step | None = None) -> Preparation:
    """Fit steps on training rows, one after the other, and return the Preparation.

    train: a Table, or a subset of one
    steps: such as `missing.median()`; each is fitted on the result of those before it
    without: columns that are not used
    target: a step of `research.data.features.scale` for a target that is a number; `inverse` undoes it

    At the end, all columns of numbers are the features, in the order of the table, and categories that no step encoded
    are codes. Nothing is dropped silently: a column of text or dates needs a step, or a place in `without`.
    While a run is opened again, the result is the Preparation that was saved with it (`research.data.stored`).

    Raises UserError for a column without a use, and for steps that do not fit the columns.
    """
    table, indices = table_rows(train)
    without = (without,) if isinstance(without, str) else tuple(without)
    given = [*steps, *([target] if target else [])]
    if wrong := [one for one in given if not isinstance(one, Step)]:
        raise UserError(f"{wrong[0]!r} is no step; expected, for example, missing.median() or scale.standard().")
    made_of = json.dumps([[[step.name, step.arguments] for step in given], target is not None, without], default=str)
    kept = stored.get()
    if kept is not None and kept.preparation.made_of == made_of:
        return kept.preparation
    for name in without:
        if name not in table.schema:
            raise unknown("column of without=", name, table.schema)
    used = {n: c for n, c in table.schema.items() if n not in (*without, table.target)}
    if texts := [name for name, column in used.items() if column.kind == "text"]:
        raise UserError(
            f"columns of text are no features: {format_names(texts)}. Leave them out, without={tuple(texts)}, or state "
            "another kind in the schema, such as Column('category', buckets=256)."
        )
    raw = {name: values[indices] for name, values in table.columns.items()}
    columns, _ = schemas.code(used, raw, rows=indices)
    features = {}
    for name in columns:
        column = used.get(name) or used[name.removesuffix(" time")]
        kind = "number" if column.kind == "integer" else column.kind
        categories = tuple(map(str, range(column.buckets))) if column.buckets else column.categories
        features[name] = Feature(kind, categories)
    if not columns:
        raise UserError("the table has no column that could be a feature.")
    labels, classes, target_step = None, None, None
    if table.target:
        field = target_field(table.schema, table.target, raw[table.target], indices)
        labels = next(iter(field.values())).reshape(len(indices)).astype(np.float64)
        classes = len(table.schema[table.target].categories) if "label" in field else None
    if target:
        target_step = _fit_target(target, table.target, labels, classes)
    columns[ROWS] = np.arange(len(indices))
    fitted = []
    for one in steps:
        rows = columns[ROWS]
        frame = Frame({n: x for n, x in columns.items() if n != ROWS}, features,
                      None if labels is None else labels[rows], classes)  # fmt: skip
        try:
            result = one.fit(frame)
        except ValueError as error:  # of scikit-learn
            raise UserError(f"{one}: {str(error).split(chr(10))[0]}") from error
        function = result.training or result.apply
        columns = function(columns, result.arrays, **result.settings) if function else columns
        if not len(columns[ROWS]):
            raise UserError(f"{one} drops all {len(rows)} training rows.")
        features = dict(result.features or features)
        fitted.append(result)
    if dates := [name for name, feature in features.items() if feature.kind == "date"]:
        raise UserError(f"dates are no features: {format_names(dates)}. Add dates.parts(), or without={tuple(dates)}.")
    names = tuple(name for name, feature in features.items() if feature.kind in ("number", "flag"))
    codes = {name: len(f.categories) + 1 for name, f in features.items() if f.kind == "category"}
    return Preparation(
        table.schema, table.target, without, tuple(fitted), names, codes, len(indices), len(table), table.reading,
        target_step, made_of, (table, indices),
    )  # fmt: skip


def _fit_target(step, name, labels, classes):
    if labels is None or classes is not None:
        raise UserError("target= is for a target that is a number.")
    fitted = step.fit(Frame({name: labels}, {name: Feature("number")}, None, None))
    if fitted.inverse is None:
        raise UserError(f"target={step} has no inverse; expected a step of research.data.features.scale.")
    return fitted
