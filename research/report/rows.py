"""Rows of an evaluation: pairing of examples between runs, per-example scores and slices."""

import math
from collections.abc import Sequence

import numpy as np

from research.metrics.scores import read_log_odds
from research.runs.reader import Evaluation

MOST_CLASSES = 50
# These rows identify examples: two evaluations pair if they agree on all of these that both have.
IDENTITY = ("label", "target", "real")


def unlike(one: Evaluation, other: Evaluation) -> str:
    """Return why two evaluations have different examples; "" if they match or no row identifies the examples."""
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
    """Return {metric: [N]}, the score of each example for every metric that is a mean over examples.

    These are accuracy, loss, brier, mse, mae, auc (see `auc_scores`), and every row with the name of a metric. A row is
    omitted if it is not finite or if its mean is not the reported metric.
    """
    rows, candidates = found.rows, {}
    candidates |= {name: values for name, values in rows.items() if values.ndim == 1 and values.dtype.kind in "fiub"}
    if {"label", "prediction"} <= set(rows) and rows["label"].shape == rows["prediction"].shape:
        candidates["accuracy"] = rows["label"] == rows["prediction"]
        if (p := rows.get("probabilities")) is not None and rows["label"].ndim == 1:
            truth = rows["label"][:, None] == np.arange(p.shape[1])
            if "auc" in found.numbers:
                candidates["auc"] = auc_scores(rows["label"], read_log_odds(rows))
            candidates["brier"] = ((p - truth) ** 2).sum(1) / (2 if p.shape[1] == 2 else 1)
    if "error" in rows and len(rows["error"]):
        error = np.asarray(rows["error"], np.float64).reshape(len(rows["error"]), -1)
        candidates |= {"mse": (error**2).mean(1), "mae": abs(error).mean(1)}
    result = {}
    for name, values in candidates.items():
        reported = found.numbers.get(name)
        values = np.asarray(values, np.float64)
        if reported is not None and values.size and values.ndim == 1 and np.isfinite(values).all():
            if math.isclose(values.mean(), reported, rel_tol=1e-4, abs_tol=1e-6):
                result[name] = values
    return result


def auc_scores(label, log_odds) -> np.ndarray:
    """Return per-example scores, float [N], whose mean is the AUC, for labels int [N] and log-odds float [N, C].

    With two classes, this is the AUC of class 1; with more, the mean AUC of each class against the rest. All scores are
    NaN if a class is absent. The AUC is a mean over pairs of a positive and a negative example. For a positive example,
    take the fraction of negatives ranked below it; for a negative, the fraction of positives ranked above it. The score
    is the AUC plus the deviation of this fraction from the AUC, divided by the fraction of examples on the same side
    (DeLong, DeLong & Clarke-Pearson 1988). It is a first-order expansion: the mean over a subset of examples is not the
    AUC of the subset.
    """

    total, classes = np.zeros(len(label)), range(log_odds.shape[1])
    classes = [1] if len(classes) == 2 else classes
    for c in classes:
        true, ranks = label == c, _ranks(log_odds[:, c])
        if true.all() or not true.any():
            return np.full(len(label), np.nan)
        fraction, area = true.mean(), 0.0
        for side, negative in ((true, False), (~true, True)):
            below = (ranks[side] - _ranks(log_odds[side, c])) / (~side).sum()
            score = 1 - below if negative else below
            area = score.mean()
            total[side] += area + (score - area) / (fraction if side is true else 1 - fraction)
    return total / len(classes)


def _ranks(values) -> np.ndarray:
    """The rank of each value, from 1; equal values share the mean of their ranks. scipy.stats is slow to import."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def parted(found: Evaluation) -> dict[str, tuple[Sequence[str], np.ndarray]]:
    """Return {slicing: (names [S], slice index of each row [N])}: the slices of `metrics.slices.sliced`, and classes.

    Classes are included if their labels are integers and there are 2 to `MOST_CLASSES` of them.
    """
    slicings = {}
    for name, values in found.rows.items():
        by = name.removeprefix("slice/")
        if by != name and f"slices/{by}" in found.arrays:
            slicings[by] = ([str(n) for n in found.arrays[f"slices/{by}"]], values)
    label = found.rows.get("label")
    if "class" not in slicings and label is not None and label.ndim == 1 and label.dtype.kind in "iu" and label.size:
        count = int(label.max()) + 1
        if 1 < count <= MOST_CLASSES:
            slicings["class"] = ([str(c) for c in range(count)], label)
    return slicings
