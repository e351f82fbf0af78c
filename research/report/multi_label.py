"""Metrics per label of a multi-label classifier, and how often labels occur together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.html.markup import Html, element, format_number, percent, table
from research.report import confusion
from research.runs.reader import Evaluation


class PerLabel(NamedTuple):
    """One label: the number of examples that have it, precision, recall, F1 and average precision.

    A number is None if it is undefined: precision without predictions, the others without examples that have the label.
    """

    name: str
    count: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None


def is_multi_label(found: Evaluation) -> bool:
    """Return whether the rows of an evaluation are those of `measure_multi_label`."""
    shapes = [np.shape(found.rows.get(name)) for name in ("labels", "probabilities", "logits", "predictions")]
    return len(shapes[0]) == 2 and min(shapes[0]) > 0 and len(set(shapes)) == 1


def per_label(found: Evaluation, names: Sequence[str]) -> list[PerLabel]:
    """Compute the metrics of each label, as scikit-learn's functions of the same names do."""
    from sklearn.metrics import average_precision_score

    true, predicted = found.rows["labels"] > 0, found.rows["predictions"] > 0
    weights = np.asarray(found.rows.get("weight", np.ones(len(true))), np.float64)
    result = []
    for c, name in enumerate(names):
        hits, positive, chosen = ((weights * mask[:, c]).sum() for mask in (true & predicted, true, predicted))
        some, scores = positive > 0, found.rows["logits"][:, c]
        ranked = float(average_precision_score(true[:, c], scores, sample_weight=weights)) if some else None
        result.append(PerLabel(
            name, int(true[:, c].sum()), hits / chosen if chosen else None, hits / positive if some else None,
            2 * hits / (positive + chosen) if positive + chosen else None, ranked,
        ))  # fmt: skip
    return result


def together(labels) -> np.ndarray:
    """Return counts [labels, labels]: the examples that have both the label of the row and that of the column."""
    mask = np.asarray(labels) > 0
    return mask.T.astype(np.int64) @ mask


def multi_label(found: Evaluation, names: Sequence[str] | None, *, label: str) -> list[Html]:
    """Return the table of labels, and the matrices of true and of predicted labels that occur together."""
    rows = found.rows
    names = confusion.row_names(rows["labels"].shape[1], names)
    numeric = ("examples", "precision", "recall", "F1", "average precision")
    cells = [[one.name, format_number(one.count), *map(percent, one[2:])] for one in per_label(found, names)]
    remark = (
        "Cells are counts. Shading is the fraction of the examples with the label of the row, on a square-root scale."
    )
    plots = []
    for kind, which in (("true", "labels"), ("predicted", "predictions")):
        counts = together(rows[which])
        drawn = confusion.picture(
            counts, names, axes=("also has", f"{kind} label"), totals=counts.diagonal(),
            label=f"{kind} labels of {label} that occur together",
        )  # fmt: skip
        plots.append(element("div", Html(drawn), class_="plot"))
    return [
        element("h3", "Per-label metrics"),
        table(["label", *numeric], cells, numeric=numeric),
        element("h3", "Labels that occur together"),
        element("p", remark, class_="remark"),
        element("div", *plots, class_="plots"),
    ]
