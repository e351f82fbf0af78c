"""Checks of the data. Each takes the Tables of an experiment and returns one Outcome."""

import contextlib

import jax
import numpy as np

from research.diagnose.case import MISFITS, Case, first_question
from research.diagnose.finding import Finding
from research.diagnose.layer import first_layer_inputs
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.tables import Table, flat
from research.errors import format_names

LARGE, SMALL = 5.0, 0.02  # limits of a feature's root mean square and of the largest value; initialisers assume 1


def finite(found: list[Table]) -> Outcome:
    """Test whether every number is finite: one NaN makes the loss of its entire batch NaN."""
    if not found:
        return Skipped("finite numbers", "no data set has the fields that the evaluation passes to the model")
    bad = {}
    for table in found:
        for name, column in table.fields.items():
            wrong = ~np.isfinite(flat(column)).all(1) if column.dtype.kind == "f" else np.zeros(1, bool)
            if wrong.any():
                bad[f"{table.name}/{name}"] = [int(row) for row in table.rows[wrong][:20]], int(wrong.sum())
    if not bad:
        return Passed("finite numbers", ", ".join(f"{t.name} {len(t.rows):,}{t.sampled}" for t in found))
    text = "; ".join(f"{count} records of {name}, such as {rows[:3]}" for name, (rows, count) in bad.items())
    return Finding("finite numbers", True, f"The data contain NaN or infinite numbers: {text}.", (
        "drop the records: subset(data, np.flatnonzero(np.isfinite(features).all(1)))",
        "impute the median of the training set, and add a column that marks missing values",
        "drop constant columns: division by their standard deviation of 0 makes NaN",
    ), {name: rows for name, (rows, _) in bad.items()})  # fmt: skip


def constant(case: Case, found: list[Table]) -> Outcome:
    """Find features that are constant over the training set.

    A feature is a column of a vector [F], a field that is one number, or, for fields with more axes, a channel: the
    corner pixel of an image may well be always white.
    """
    rule, train = "constant features", found[0]
    same, count = [], 0
    for name in inputs_of(case, train):
        column = train.fields[name]
        if column.dtype.kind not in "fu":
            continue  # the first token may well be the same in every row
        shape = column.shape
        columns = column.reshape(-1, shape[-1]) if len(shape) > 1 else column[:, None]
        spread = np.ptp(columns.astype(np.float64), 0)
        count += len(spread)
        same += [f"{name}[..., {i}]" for i in np.flatnonzero(spread == 0)]
    if count == 0 or len(train.rows) < 2:
        return Skipped(rule, "no numeric field of the training records reaches the model")
    if not same:
        return Passed(rule, f"none of {count} columns or channels")
    text = (
        f"{len(same)} of {count} features have one value in all training records{train.sampled}: {format_names(same)}."
    )
    return Finding(rule, False, text, (
        "drop them: features = features[:, features.std(0) > 0]",
        "check how they were read: a missing column, a wrong delimiter, a mask that covers everything",
    ), {"features": same})  # fmt: skip


def balance(case: Case, found: list[Table]) -> Outcome:
    """Check how labels are distributed over classes.

    A problem if the model has no output for a label, or if an evaluated class has no training records. Worth a look if
    the largest class has more than 20 x the records of the smallest, or if an evaluation set lacks a class. Negative
    labels mean "no label".
    """
    rule, labels = "labels", labels_of(case, found)
    if not labels:
        return Skipped(rule, "the records have no integer class labels")
    train = labels.get(found[0].name)
    outputs = _outputs(case.question, case.state, case.small)
    counts = {name: np.bincount(values[values >= 0]) for name, values in labels.items() if (values >= 0).any()}
    evidence = {name: [int(x) for x in count] for name, count in counts.items()}
    advice = ("count them: np.bincount(labels)", "split by class: stratified(labels, (1000, 300, None), seed=0)")
    if wrong := _numbered(labels.values(), outputs):
        return Finding(rule, True, wrong[0], (wrong[1], *advice), evidence)
    if train is None or found[0].name not in counts:
        return Skipped(rule, "the training records have no labels")
    trained = set(np.unique(train[train >= 0]))
    for name, values in labels.items():
        if lacking := sorted(set(np.unique(values[values >= 0])) - trained):
            text = f"The classes {format_names(lacking)} are in {name} and never in training{found[0].sampled}."
            return Finding(rule, True, text, advice[::-1], evidence)
    train_counts = counts[found[0].name]
    train_counts = train_counts[train_counts > 0]
    if train_counts.max() > 20 * train_counts.min():
        text = f"The largest class has {train_counts.max():,} training records, "
        text += f"the smallest {train_counts.min():,}{found[0].sampled}."
        return Finding(rule, False, text, (
            "report a balanced score: finish=class_scores(\"macro\"), sliced(..., by={\"class\": classes(names)})",
            "sample classes evenly: mixture({...}, weights=...) with one subset per class",
            "weight the loss of each class by 1 / its frequency",
        ), evidence)  # fmt: skip
    for name, count in counts.items():
        absent = sorted(trained - set(np.flatnonzero(count)))
        if absent and len(labels[name]) >= 10 * len(trained):
            text = f"The classes {format_names(absent)} are trained and not in {name}: the evaluation ignores them."
            return Finding(rule, False, text, advice[::-1], evidence)
    smallest, largest = train_counts.min(), train_counts.max()
    return Passed(rule, f"{len(trained)} classes with {smallest:,} to {largest:,} training records{found[0].sampled}")


def scale(case: Case, found: list[Table]) -> Outcome:
    """Check the root mean square of the features that reach the first layer, after the model's own preprocessing.

    Initialisers preserve the size of activations, provided that inputs have a size of about 1 (He et al. 2015,
    section 2.2). A problem if the root mean square of a feature is above 5 (bytes from 0 to 255, ink from 0 to 16,
    columns in raw units), if no value is larger than 0.02 (scaled twice), or if an input field has another scale in an
    evaluation set than in training.
    """
    rule, train = "scale of the inputs", found[0]
    for table in found[1:]:
        if text := _differs(case, train, table):
            return Finding(rule, True, text, (
                "scale inside the model, in training and in evaluation: preprocessed(model, prepare)",
                "scale every set with the mean and standard deviation of the training set",
            ), {"sets": [train.name, table.name]})  # fmt: skip
    if case.question is None:
        return Skipped(rule, case.silent)
    params, stats = case.state.params, case.state.stats
    inputs = [train.fields.get(name, np.zeros(0))[:512] if name else None for name in case.question.inputs]
    if train.drawn or any(x is None or not len(x) for x in inputs):
        inputs = case.question.ask(params, stats, case.small).inputs
    x = first_layer_inputs(case.experiment.apply, params, stats, tuple(inputs))
    if x is None:
        return Skipped(rule, "the first layer is an embedding lookup")
    columns = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    size = np.sqrt((columns**2).mean(0))
    largest, at = float(np.max(size)), int(np.argmax(size))
    evidence = {"root mean square": [float(s) for s in size[:1000]]}
    fix = (
        "images: model = preprocessed(model, lambda image: normalize(image, mean=..., std=...))",
        "columns: features = (features - features[train].mean(0)) / features[train].std(0)",
    )
    if largest > LARGE:
        wide = int((size > LARGE).sum())
        text = f"{wide} of {len(size)} features reach the first layer with a root mean square above {LARGE:g}; "
        text += f"the largest is {largest:.4g} (feature {at}; mean {columns[:, at].mean():.4g}). Expected: about 1."
        return Finding(rule, True, text, (*fix, "counts and prices: apply np.log1p first"), evidence)
    if np.abs(columns).max() < SMALL:
        text = f"No value that reaches the first layer is larger than {np.abs(columns).max():.2g}. Expected: about 1."
        return Finding(rule, True, text, (*fix, "look for a scaling that is applied twice"), evidence)
    return Passed(rule, f"features reach the first layer with a root mean square of up to {largest:.3g}")


def _differs(case, train, table):
    for name in inputs_of(case, train):
        if train.fields[name].dtype.kind not in "fu" or name not in table.fields:
            continue
        sides = [np.asarray(t.fields[name], np.float64) for t in (train, table)]
        means, spreads = [x.mean() for x in sides], [x.std() for x in sides]
        unit = max(spreads)
        if unit and (max(spreads) > 3 * min(spreads) or abs(means[0] - means[1]) > 2 * unit):
            return (f"The field {name!r} has mean {means[0]:.4g} and standard deviation {spreads[0]:.4g} in "
                    f"{train.name}, {means[1]:.4g} and {spreads[1]:.4g} in {table.name}.")  # fmt: skip
    return None


def inputs_of(case, table) -> list[str]:
    """Return the fields of a table that reach the model.

    If the evaluation does not show them, or computes some inputs itself (such as masked tokens): all but the target.
    """
    named = case.question.inputs if case.question else ()
    if named and None not in named:
        return [name for name in named if name in table.fields]
    return [name for name in table.fields if name not in ("mask", "label", "target")]


def labels_of(case, found) -> dict[str, np.ndarray]:
    """Return {data set: int [n]}, the labels of each set that has them."""
    name = (case.question.target if case.question else None) or "label"
    columns = {table.name: table.fields.get(name) for table in found}
    return {k: x for k, x in columns.items() if x is not None and x.ndim == 1 and x.dtype.kind in "iu" and len(x)}


def _numbered(labels, outputs) -> tuple[str, str] | None:
    """(text, remedy) if a label is none of the model's classes, whose number is `outputs`."""
    known = np.concatenate([values[values >= 0] for values in labels])
    if not outputs or not len(known) or known.max() < outputs:
        return None
    low, high = int(known.min()), int(known.max())
    from_one = low > 0 and high == outputs
    remedy = "number the classes from 0: subtract 1 from every label" if from_one else f"num_classes={high + 1}"
    text = f"The label {high} is none of the {outputs} classes of the model, 0 to {outputs - 1}: its loss is NaN."
    return text, remedy


def misnumbered(built, batch) -> str:
    """Describe the labels of a training batch that are none of the model's classes; "" if there are none.

    Nothing is computed on the device, so that one process of a job may call it.
    """
    with contextlib.suppress(*MISFITS):
        question, small, _ = first_question(built.experiment, built.abstract, batch)
        labels = batch[question.target]
        if labels.ndim == 1 and labels.dtype.kind in "iu":
            return " Try: ".join(_numbered([labels], _outputs(question, built.abstract, small)) or ())
    return ""


def _outputs(question, state, small):
    if question is None:
        return None
    outputs = jax.eval_shape(question.ask, state.params, state.stats, small).outputs
    shape = getattr(outputs, "shape", ())
    return shape[-1] if len(shape) == 2 and shape[-1] > 1 else None
