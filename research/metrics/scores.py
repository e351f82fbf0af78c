"""Scores of a classifier's whole evaluation, on the host: the `finish` of an Eval.

    Eval(source, measure_classification(num_classes=10), finish=also(class_scores(), ranking(), composite(...)))

The figures are scikit-learn's, also for degenerate input, except that its warnings are silent.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np

from research.axes import Array, Float, Integer, Num, Shaped
from research.errors import UserError, unknown

Finish = Callable[[Mapping], Mapping]
Number = float | np.number | Num[Array, ""]
AVERAGES = ("macro", "weighted", "micro", "binary")


def also(*finishes: Finish) -> Finish:
    """One `finish` of several: each sees the results together with the findings of those before it."""

    def finish(results: Mapping) -> dict:
        found = {}
        for one in finishes:
            found = {**found, **one({**results, **found})}
        return found

    return finish


def class_scores(*averages: str) -> Finish:
    """precision_<average>, recall_<average> and f1_<average> of the confusion, for each of `averages`: macro (the
    default), weighted, micro or binary (class 1 of two), as in `precision_recall_fscore_support`.

    A precision or recall without a denominator counts 0; a class that is neither a label nor a prediction is left out
    of the averages. Raises UserError for another average, and if the confusion is empty or the accuracy is NaN.
    """
    averages = averages or ("macro",)
    for average in averages:
        if average not in AVERAGES:
            raise unknown("average", average, AVERAGES)

    def finish(results: Mapping) -> dict[str, Number]:
        from sklearn.metrics import precision_recall_fscore_support

        counts = np.asarray(_part(results, "confusion"))
        label, prediction = np.nonzero(counts)
        if not len(label):
            raise UserError("precision, recall and F1 of no example: the confusion is empty.")
        if np.isnan(results.get("accuracy", 0)):
            raise UserError("precision, recall and F1 where a logit is NaN: the example has no prediction.")
        if "binary" in averages and len(counts) != 2:
            raise UserError(f"the average 'binary' is of two classes; there are {len(counts)}.")
        found = {}
        for average in averages:
            three = precision_recall_fscore_support(
                label, prediction, sample_weight=counts[label, prediction], average=average, zero_division=0
            )
            found |= {f"{name}_{average}": x for name, x in zip(("precision", "recall", "f1"), three, strict=False)}
        return found

    return finish


def ranking() -> Finish:
    """auc and average_precision of the rows label and probabilities, and the arrays roc and precision_recall.

    Of two classes, they are those of class 1; of more, the unweighted means of each class against the rest. auc is
    `roc_auc_score`: NaN if a class (or everything but it) is absent. average_precision is `average_precision_score`: 0
    for a class that is absent. Equal probabilities are one point of a curve. roc [points, 4] holds class, false
    positive rate, true positive rate and threshold of each point of each class, as `roc_curve`; precision_recall
    [points, 4] class, recall, precision and threshold, as `precision_recall_curve`; the ends of the curves have an
    infinite threshold.

    Raises UserError if there is no example, a probability is not finite or a label is no class, and if the measure
    keeps no probabilities.
    """

    def finish(results: Mapping) -> dict[str, Number | Float[np.ndarray, "points 4"]]:
        from sklearn import metrics

        label, scores = _scored(results)
        classes = range(scores.shape[1]) if scores.shape[1] > 2 else [1]
        auc, precision, roc, curve = [], [], [], []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the number itself shows that it is undefined
            for c in classes:
                true, score = label == c, scores[:, c]
                auc.append(metrics.roc_auc_score(true, score))
                precision.append(metrics.average_precision_score(true, score))
                roc.append(_points(c, *metrics.roc_curve(true, score)))
                p, r, threshold = metrics.precision_recall_curve(true, score, drop_intermediate=True)
                curve.append(_points(c, r, p, np.append(threshold, np.inf)))
        return {
            "auc": np.mean(auc),
            "average_precision": np.mean(precision),
            "roc": np.concatenate(roc),
            "precision_recall": np.concatenate(curve),
        }

    return finish


def composite(
    name: str = "score", *, higher: Mapping[str, float] | None = None, lower: Mapping[str, float] | None = None,
    worst: Mapping[str, float] | None = None,
) -> Finish:  # fmt: skip
    """One number out of several, weighted: the nuScenes detection score (Caesar et al. 2020, equation 3) is
    composite("NDS", higher={"mAP": 5}, lower={"mATE": 1, "mASE": 1, ...}).

    `higher` and `lower` are {metric: weight}: of `higher` more is better, of `lower` less. A metric of `lower` counts
    max(0, 1 - value / worst): 1 if it is 0, and 0 from `worst[metric]` on, by default 1. The score is the sum of weight
    times count over the sum of the weights; NaN if a metric is.

    Raises UserError for weights that are not above 0, for a `worst` that is not in `lower`, and for a metric that the
    results do not have or that is no single number.
    """
    higher, lower, worst = dict(higher or {}), dict(lower or {}), dict(worst or {})
    if both := set(higher) & set(lower):
        raise UserError(f"the metric {sorted(both)[0]!r} of {name!r} is better both when higher and when lower.")
    for metric in worst:
        if metric not in lower:
            raise unknown("metric of lower=", metric, lower)
    for what, numbers in (("weight", {**higher, **lower}), ("worst", worst)):
        for metric, number in numbers.items():
            if not 0 < number < np.inf:
                raise UserError(f"the {what} of {metric!r} in {name!r} is {number}; expected a number above 0.")
    if not higher and not lower:
        raise UserError(f"{name!r} is made of no metric; give higher={{metric: weight}} or lower=.")

    def finish(results: Mapping) -> dict[str, Number]:
        total = sum(weight * single(results, metric) for metric, weight in higher.items())
        for metric, weight in lower.items():
            total += weight * np.maximum(0, 1 - single(results, metric) / worst.get(metric, 1))
        return {name: total / sum([*higher.values(), *lower.values()])}

    return finish


def numbers_of(results: Mapping) -> dict[str, Number]:
    """Those of the results that are single numbers."""
    return {k: v for k, v in results.items() if k != "rows" and not isinstance(v, str) and np.ndim(v) == 0}


def single(results: Mapping, metric: str) -> Number:
    """The number that the results have as `metric`. Raises UserError if they have none, or if that is an array."""
    numbers = numbers_of(results)
    if metric not in numbers:
        raise unknown("metric", metric, numbers)
    return numbers[metric]


def _scored(results: Mapping) -> tuple[Integer[np.ndarray, " rows"], Float[np.ndarray, "rows classes"]]:
    rows = results["rows"]
    if "probabilities" not in rows:
        raise UserError(
            "the measure keeps no rows of probabilities: measure_classification(..., keep=) of more classes."
        )
    label, scores = np.asarray(_part(rows, "label")), np.asarray(rows["probabilities"], np.float64)
    if not len(label):
        raise UserError("a ROC curve of no example.")
    if bad := int((~np.isfinite(scores)).any(-1).sum()):
        raise UserError(f"the probabilities of {bad} of {len(scores)} examples are not finite; they have no order.")
    if (outside := (label < 0) | (label >= scores.shape[1])).any():
        raise UserError(f"the label {label[outside][0]} is none of the {scores.shape[1]} classes.")
    return label, scores


def _part(results: Mapping, name: str) -> Shaped[Array, "..."]:
    if name not in results:
        raise unknown("part of the results", name, results)
    return results[name]


def _points(
    c: int, x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"], threshold: Float[np.ndarray, " points"]
) -> Float[np.ndarray, "points 4"]:
    return np.stack([np.full(len(x), c), x, y, threshold], -1)
