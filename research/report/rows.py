"""The rows of an evaluation: which example each is of, and what it adds to the numbers."""

import math
from collections.abc import Sequence

import numpy as np

from research.runs.reader import Evaluation

MOST_CLASSES = 50
# Rows that tell which example a row is of: rows pair where all that both have are the same.
IDENTITY = ("label", "target", "real")


def unlike(one: Evaluation, other: Evaluation) -> str:
    """Why the rows of two evaluations are not of the same examples; "" where they are, or none tells."""
    names = [n for n in one.rows if n in other.rows and (n in IDENTITY or n.startswith("slice/"))]
    counts = [len(next(iter(found.rows.values()))) if found.rows else None for found in (one, other)]
    if None not in counts and counts[0] != counts[1]:
        return f"{counts[0]} and {counts[1]} rows"
    for name in names:
        a, b = one.rows[name], other.rows[name]
        if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            return f"{name!r} differs"
    return ""


def scores(found: Evaluation) -> dict[str, np.ndarray]:
    """{metric: [N]} of what each example adds to the numbers that are means over examples: accuracy, loss, brier, mse,
    mae, auc (see `auc_scores`), and every row that bears a number's name. What has another mean is left out.
    """
    rows, made = found.rows, {}
    made |= {name: values for name, values in rows.items() if values.ndim == 1 and values.dtype.kind in "fiub"}
    if {"label", "prediction"} <= set(rows) and rows["label"].shape == rows["prediction"].shape:
        made["accuracy"] = rows["label"] == rows["prediction"]
        if (p := rows.get("probabilities")) is not None and rows["label"].ndim == 1:
            truth = rows["label"][:, None] == np.arange(p.shape[1])
            made["auc"] = auc_scores(rows["label"], p)
            made["brier"] = ((p - truth) ** 2).sum(1) / (2 if p.shape[1] == 2 else 1)
    if "error" in rows and len(rows["error"]):
        error = np.asarray(rows["error"], np.float64).reshape(len(rows["error"]), -1)
        made |= {"mse": (error**2).mean(1), "mae": abs(error).mean(1)}
    sound = {}
    for name, values in made.items():
        told = found.numbers.get(name)
        values = np.asarray(values, np.float64)
        if told is not None and values.size and values.ndim == 1 and np.isfinite(values).all():
            if math.isclose(values.mean(), told, rel_tol=1e-4, abs_tol=1e-6):
                sound[name] = values
    return sound


def auc_scores(label, probabilities) -> np.ndarray:
    """What each example adds to the AUC of class 1 of two, or to the mean AUC of more classes against the rest: float
    [N], whose mean is the AUC; NaN where a class is absent. int [N] and float [N, C] in.

    The AUC is a mean over pairs. To first order it is the mean of these scores: of each example the share of the other
    side that it is ranked above (or below), by the weight of its side (DeLong, DeLong & Clarke-Pearson 1988). The mean
    of some of them is not their AUC.
    """
    from scipy.stats import rankdata

    total, classes = np.zeros(len(label)), range(probabilities.shape[1])
    classes = [1] if len(classes) == 2 else classes
    for c in classes:
        true, ranks = label == c, rankdata(probabilities[:, c])
        if true.all() or not true.any():
            return np.full(len(label), np.nan)
        share, area = true.mean(), 0.0
        for side, ahead in ((true, False), (~true, True)):
            below = (ranks[side] - rankdata(probabilities[side, c])) / (~side).sum()
            place = 1 - below if ahead else below
            area = place.mean()
            total[side] += area + (place - area) / (share if side is true else 1 - share)
    return total / len(classes)


def parted(found: Evaluation) -> dict[str, tuple[Sequence[str], np.ndarray]]:
    """{by: (names [S], the slice of each row [N])}: those of `metrics.slices.sliced`, and the classes."""
    ways = {}
    for name, values in found.rows.items():
        by = name.removeprefix("slice/")
        if by != name and f"slices/{by}" in found.arrays:
            ways[by] = ([str(n) for n in found.arrays[f"slices/{by}"]], values)
    label = found.rows.get("label")
    if "class" not in ways and label is not None and label.ndim == 1 and label.dtype.kind in "iu" and label.size:
        count = int(label.max()) + 1
        if 1 < count <= MOST_CLASSES:
            ways["class"] = ([str(c) for c in range(count)], label)
    return ways
