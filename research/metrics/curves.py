"""ROC and precision-recall curves in numpy, equal to scikit-learn's, which takes a second to import."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.axes import Bool, Float, Num


class Curve(NamedTuple):
    """The points of a curve, the `threshold` of each as a score, and the `area` under the curve."""

    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    threshold: Float[np.ndarray, " points"]
    area: float


def roc_curve(
    true: Bool[np.ndarray, " rows"], score: Num[np.ndarray, " rows"], weight: Num[np.ndarray, " rows"] | None = None
) -> Curve:
    """Compute the false (x) and true (y) positive rates at all thresholds, from the highest, which is infinite.

    Points on a straight line between others are left out. The area is the AUC. A rate of no examples, and then the
    area, is NaN.
    """
    hits, errors, threshold = _cumulated(true, score, weight)
    corner = (np.diff(hits, 2) != 0) | (np.diff(errors, 2) != 0)
    hits, errors, threshold = (_kept(x, corner) for x in (hits, errors, threshold))
    with np.errstate(invalid="ignore"):
        x, y = (np.append(0, sums) / sums[-1] for sums in (errors, hits))
    return Curve(x, y, np.append(np.inf, threshold), float(np.trapezoid(y, x)))


def precision_recall_curve(
    true: Bool[np.ndarray, " rows"], score: Num[np.ndarray, " rows"], weight: Num[np.ndarray, " rows"] | None = None
) -> Curve:
    """Compute the recall (x) and the precision (y) at all thresholds, from the lowest to infinity.

    Of the points with one recall, the first and the last remain. The area is the average precision, the mean of the
    precision over the steps of the recall. Without positive examples, the recall is 1 and the area 0.
    """
    hits, errors, threshold = _cumulated(true, score, weight)
    recall = hits / hits[-1] if hits[-1] else np.ones(len(hits))
    precision = hits / (hits + errors)
    area = np.sum(np.diff(recall, prepend=0) * precision)
    corner = (np.diff(hits[:-1]) != 0) | (np.diff(hits[1:]) != 0)
    parts = ((recall, 0.0), (precision, 1.0), (threshold, np.inf))
    return Curve(*(np.append(_kept(x, corner)[::-1], end) for x, end in parts), max(0.0, float(area)))


def _cumulated(true, score, weight):
    """Return the weight of the positive and of the negative examples from each distinct score upwards, and the score.

    The scores fall. Examples of weight 0 are left out.
    """
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    true, score, weight = (np.asarray(x)[weight != 0] for x in (true, score, weight))
    order = np.argsort(-score, kind="stable")
    true, score, weight = true[order], score[order], weight[order]
    last = np.flatnonzero(np.append(np.diff(score) != 0, True))
    return np.cumsum(weight * true)[last], np.cumsum(weight * ~true)[last], score[last].astype(np.float64)


def _kept(x, corner):
    """The first and the last entry, and those at a corner between them."""
    return x[np.concatenate([[True], corner, [True]])] if len(x) > 2 else x
