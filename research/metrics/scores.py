"""Metrics of a classifier that need the complete evaluation: `finish` functions of an Eval, which run on the host.

    Eval(source, measure_classification(num_classes=10), finish=also(class_scores(), ranking(), composite(...)))

The values equal scikit-learn's, also for degenerate input, but its warnings are suppressed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from research.axes import Array, Float, Integer, Num, Shaped
from research.errors import UserError, unknown
from research.metrics.curves import Curve, precision_recall_curve, roc_curve

Finish = Callable[[Mapping], Mapping]
Number = float | np.number | Num[Array, ""]
AVERAGES = ("macro", "weighted", "micro", "binary")


def chain(*finishes: Finish) -> Finish:
    """Chain several `finish` functions; each receives the results and the metrics of the earlier functions."""

    def finish(results: Mapping) -> dict:
        metrics = {}
        for function in finishes:
            metrics = {**metrics, **function({**results, **metrics})}
        return metrics

    return finish


def class_scores(*averages: str) -> Finish:
    """Return a `finish` that computes precision, recall and F1 from the confusion matrix.

    The keys are precision_<average>, recall_<average> and f1_<average> for each of `averages`: macro (the default),
    weighted, micro or binary (class 1 of two), as in `precision_recall_fscore_support`. A precision or recall without a
    denominator counts as 0. Averages omit classes that are neither a label nor a prediction.

    Raises UserError for an unknown average, for "binary" without exactly two classes, for an empty confusion matrix and
    for a NaN accuracy.
    """
    averages = averages or ("macro",)
    for average in averages:
        if average not in AVERAGES:
            raise unknown("average", average, AVERAGES)

    def finish(results: Mapping) -> dict[str, Number]:
        from sklearn.metrics import precision_recall_fscore_support

        counts = np.asarray(_result(results, "confusion"))
        label, prediction = np.nonzero(counts)
        if not len(label):
            raise UserError("precision, recall and F1 need an example; the confusion matrix is empty.")
        if np.isnan(results.get("accuracy", 0)):
            raise UserError("precision, recall and F1 need predictions; a logit is NaN.")
        if "binary" in averages and len(counts) != 2:
            raise UserError(f"the average 'binary' needs two classes; there are {len(counts)}.")
        scores = {}
        for average in averages:
            three = precision_recall_fscore_support(
                label, prediction, sample_weight=counts[label, prediction], average=average, zero_division=0
            )
            scores |= {f"{name}_{average}": x for name, x in zip(("precision", "recall", "f1"), three, strict=False)}
        return scores

    return finish


def ranking() -> Finish:
    """Return a `finish` that computes auc, average_precision, and the curves roc and precision_recall.

    It reads the rows label, probabilities and, if there are any, log_odds and weight. Examples are ranked by log-odds,
    because probabilities near 1 are rounded to equal numbers. With two classes, the results are those of class 1. With
    more, the numbers are unweighted means over each class against the rest. auc is `roc_auc_score`: NaN if a class (or
    every other class) is absent. average_precision is `average_precision_score`: 0 for an absent class. Equal log-odds
    share one point of a curve. The curves list the points of each class:

        roc [points, 4]                 class, false positive rate, true positive rate, threshold, as `roc_curve`
        precision_recall [points, 4]    class, recall, precision, threshold, as `precision_recall_curve`

    The ends of the curves have an infinite threshold. Raises UserError without examples, for a probability that is not
    finite, for a label out of range, and if the measure stores no probabilities.
    """

    def finish(results: Mapping) -> dict[str, Number | Float[np.ndarray, "points 4"]]:
        label, scores, weight = _ranking_rows(results)
        classes = range(scores.shape[1]) if scores.shape[1] > 2 else [1]
        ranked = {c: (label == c, scores[:, c], weight) for c in classes}
        roc = {c: roc_curve(*rows) for c, rows in ranked.items()}
        curves = {c: precision_recall_curve(*rows) for c, rows in ranked.items()}
        return {
            "auc": np.mean([curve.area for curve in roc.values()]),
            "average_precision": np.mean([curve.area for curve in curves.values()]),
            "roc": np.concatenate([_points(c, curve) for c, curve in roc.items()]),
            "precision_recall": np.concatenate([_points(c, curve) for c, curve in curves.items()]),
        }

    return finish


def composite(
    name: str = "score", *, higher: Mapping[str, float] | None = None, lower: Mapping[str, float] | None = None,
    worst: Mapping[str, float] | None = None,
) -> Finish:  # fmt: skip
    """Return a `finish` that combines several metrics into one weighted score.

    For example, composite("NDS", higher={"mAP": 5}, lower={"mATE": 1, "mASE": 1, ...}) is the nuScenes detection score
    (Caesar et al. 2020, equation 3).

    `higher` and `lower` are {metric: weight}: more is better in `higher`, less is better in `lower`. A metric of
    `lower` scores max(0, 1 - value / worst): 1 at value 0, and 0 from `worst[metric]` (default: 1) upwards. The result
    is the weighted mean of the scores; it is NaN if a metric is NaN.

    Raises UserError for a weight or `worst` that is not above 0, for a `worst` of a metric that is not in `lower`, for
    a metric in both `higher` and `lower`, without any metric, and for a metric that the results lack or that is not a
    single number.
    """
    higher, lower, worst = dict(higher or {}), dict(lower or {}), dict(worst or {})
    if both := set(higher) & set(lower):
        raise UserError(f"the metric {sorted(both)[0]!r} of {name!r} is in both higher= and lower=; expected one.")
    for metric in worst:
        if metric not in lower:
            raise unknown("metric of lower=", metric, lower)
    for kind, numbers in (("weight", {**higher, **lower}), ("worst", worst)):
        for metric, number in numbers.items():
            if not 0 < number < np.inf:
                raise UserError(f"the {kind} of {metric!r} in {name!r} is {number}; expected a number above 0.")
    if not higher and not lower:
        raise UserError(f"{name!r} has no metric; give higher={{metric: weight}} or lower=.")

    def finish(results: Mapping) -> dict[str, Number]:
        total = sum(weight * scalar(results, metric) for metric, weight in higher.items())
        for metric, weight in lower.items():
            total += weight * np.maximum(0, 1 - scalar(results, metric) / worst.get(metric, 1))
        return {name: total / sum([*higher.values(), *lower.values()])}

    return finish


def scalars(results: Mapping) -> dict[str, Number]:
    """Return the results that are single numbers."""
    return {k: v for k, v in results.items() if k != "rows" and not isinstance(v, str) and np.ndim(v) == 0}


def scalar(results: Mapping, metric: str) -> Number:
    """Return the result `metric`. Raises UserError if it is missing or is not a single number."""
    numbers = scalars(results)
    if metric not in numbers:
        raise unknown("metric", metric, numbers)
    return numbers[metric]


def read_log_odds(rows: Mapping) -> Float[np.ndarray, "rows classes"]:
    """Return the rows log_odds of a classifier, in f64; if there are none, compute them from probabilities."""
    if "log_odds" in rows:
        return np.asarray(rows["log_odds"], np.float64)
    from scipy.special import logit

    return np.clip(logit(np.asarray(rows["probabilities"], np.float64)), -1e30, 1e30)  # scikit-learn refuses inf


def _ranking_rows(
    results: Mapping,
) -> tuple[Integer[np.ndarray, " rows"], Float[np.ndarray, "rows classes"], Float[np.ndarray, " rows"] | None]:
    """Return the labels, log-odds and weights of the rows."""
    rows = results["rows"]
    if "probabilities" not in rows:
        raise UserError(
            "the measure stores no probabilities; raise measure_classification(keep=) to the number of classes."
        )
    label, probabilities = np.asarray(_result(rows, "label")), np.asarray(rows["probabilities"])
    if not len(label):
        raise UserError("a ROC curve needs an example; there is none.")
    if bad := int((~np.isfinite(probabilities)).any(-1).sum()):
        raise UserError(f"the probabilities of {bad} of {len(label)} examples are not finite; they have no order.")
    if (outside := (label < 0) | (label >= probabilities.shape[1])).any():
        raise UserError(f"the label {label[outside][0]} is out of range for {probabilities.shape[1]} classes.")
    weight = rows.get("weight")
    return label, read_log_odds(rows), None if weight is None else np.asarray(weight, np.float64)


def _result(results: Mapping, name: str) -> Shaped[Array, "..."]:
    if name not in results:
        raise unknown("result", name, results)
    return results[name]


def _points(c: int, curve: Curve) -> Float[np.ndarray, "points 4"]:
    """Return the points of class c, with thresholds as probabilities instead of log-odds."""
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-curve.threshold))
    threshold = np.where(np.isinf(curve.threshold), np.inf, probability)
    return np.stack([np.full(len(curve.x), c), curve.x, curve.y, threshold], -1)
