"""Ranking and calibration plots of a classifier: ROC, precision-recall and reliability curves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.html import marks
from research.html.chart import Axis, chart
from research.html.markup import shortened
from research.metrics.scores import ranking
from research.runs.reader import Evaluation

POINTS, GRID = 120, np.linspace(0, 1, 201)  # more points make no visible difference


class Curve(NamedTuple):
    """A curve of one class against the rest: thinned points with x ascending, and the `area` under the full curve."""

    x: np.ndarray
    y: np.ndarray
    area: float


def ranked(found: Evaluation, names: Sequence[str]) -> tuple[list[str], str]:
    """Plot ROC, precision-recall and reliability curves; return (SVG elements, a remark or "").

    ROC and precision-recall need the arrays `roc` and `precision_recall` (see `metrics.scores.ranking`), or the rows
    label and probabilities. The reliability curve needs the array `reliability`. Plots without their data are omitted.
    With two classes, the curves are of class 1; with more, of each class against the rest, with their mean. Classes
    without positive or without negative examples are omitted and named in the remark.
    """
    arrays, remark = dict(found.arrays), ""
    if not {"roc", "precision_recall"} <= set(arrays) and {"label", "probabilities"} <= set(found.rows):
        try:
            arrays |= ranking()({"rows": found.rows})
        except UserError as error:
            remark = f"No ROC curve: {error}"
    drawn = []
    if {"roc", "precision_recall"} <= set(arrays):
        roc, curve = roc_curves(arrays["roc"]), precision_recall_curves(arrays["precision_recall"])
        drawn += [(_roc, roc)] if roc else []
        drawn += [(_precision_recall, {c: curve[c] for c in roc if c in curve})] if roc else []
        if absent := [c for c in dict.fromkeys(arrays["roc"][:, 0].astype(int)) if c not in roc]:
            class_list = ", ".join(_name(c, names) for c in absent)
            remark = f"Not drawn, because all examples or none are of the class: {class_list}."
    if (bins := arrays.get("reliability")) is not None and bins.ndim == 2 and np.nansum(bins[:, 0]) > 0:
        drawn.append((_reliability, bins))
    if not drawn:
        return [], remark
    return [draw(content, names) for draw, content in drawn], remark


def roc_curves(points) -> dict[int, Curve]:
    """Return {class: ROC Curve} from points [P, 4]: class, false positive rate, true positive rate, threshold.

    The area is the AUC. Classes with an undefined rate are omitted.
    """
    curves = {}
    for c, class_points in _by_class(points).items():
        x, y = class_points[:, 1], class_points[:, 2]
        if np.isfinite(x).all() and np.isfinite(y).all():
            curves[c] = Curve(*thinned(x, y), float(np.trapezoid(y, x)))
    return curves


def precision_recall_curves(points) -> dict[int, Curve]:
    """Return {class: precision-recall Curve} from points [P, 4]: class, recall, precision, threshold.

    The area is the average precision, the area under the step function that is drawn. Linear interpolation would be
    too optimistic (Davis & Goadrich 2006). Classes with an undefined value are omitted.
    """
    curves = {}
    for c, class_points in _by_class(points).items():
        recall, precision = class_points[::-1, 1], class_points[::-1, 2]
        if np.isfinite(recall).all() and np.isfinite(precision).all():
            area = float(np.sum(np.diff(recall) * precision[1:]))
            curves[c] = Curve(*thinned(recall, precision), area)
    return curves


def thinned(x, y, *, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Select at most `most` points of a curve, evenly spaced along its length, including both ends."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) <= most:
        return x, y
    length = np.cumsum(np.r_[0, abs(np.diff(x)) + abs(np.diff(y))])
    indices = np.unique(np.r_[0, np.searchsorted(length, np.linspace(0, length[-1], most - 1)), len(x) - 1])
    indices = indices[indices < len(x)]
    return x[indices], y[indices]


def wilson(hits, count) -> tuple[np.ndarray, np.ndarray]:
    """Compute the 95 % interval of Wilson (1927) for the proportions hits / count."""
    z, proportion = 1.959964, hits / count
    centre = (proportion + z**2 / (2 * count)) / (1 + z**2 / count)
    half_width = z * np.sqrt(proportion * (1 - proportion) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return centre - half_width, centre + half_width


def _by_class(points) -> dict[int, np.ndarray]:
    points = np.asarray(points, float)
    return {int(c): points[points[:, 0] == c] for c in dict.fromkeys(points[:, 0].tolist())}


def _roc(curves: Mapping[int, Curve], names) -> str:
    mean = np.mean([np.interp(GRID, np.r_[0, curve.x], np.r_[0, curve.y]) for curve in curves.values()], axis=0)
    drawn = [_diagonal(), *_lines(curves, names, (np.r_[0, GRID], np.r_[0, mean]))]
    label = f"ROC curve; area {np.mean([curve.area for curve in curves.values()]):.4f}"
    return _square(drawn, label, "ROC, area under the curve", "false positive rate", "true positive rate")


def _precision_recall(curves: Mapping[int, Curve], names) -> str:
    interpolated = [curve.y[np.minimum(np.searchsorted(curve.x, GRID), len(curve.x) - 1)] for curve in curves.values()]
    steps = {c: Curve(*marks.stepped(curve.x, curve.y), curve.area) for c, curve in curves.items()}
    drawn = _lines(steps, names, marks.stepped(GRID, np.mean(interpolated, axis=0)))
    label = f"precision-recall curve; average precision {np.mean([curve.area for curve in curves.values()]):.4f}"
    return _square(drawn, label, "precision-recall, average precision", "recall", "precision")


def _lines(curves, names, mean) -> list[marks.Mark]:
    """The curve of each class in grey with the worst one on top, and their mean; or the only curve."""
    areas = {c: curve.area for c, curve in curves.items()}
    if len(curves) == 1:
        ((c, curve),) = curves.items()
        return [marks.line(curve.x, curve.y, name=f"{_name(c, names)}: {areas[c]:.3f}")]
    worst = min(areas, key=areas.get)
    drawn = [marks.line(c.x, c.y, colour=marks.GREY, width=0.7) for key, c in curves.items() if key != worst]
    name = f"worst, {_name(worst, names)}: {areas[worst]:.3f}"
    drawn.append(marks.line(curves[worst].x, curves[worst].y, colour=marks.COLOURS[1], name=name))
    name = f"mean of {len(curves)}: {np.mean(list(areas.values())):.3f}"
    return [*drawn, marks.line(*mean, width=2, name=name)]


def _reliability(bins, names) -> str:
    count, confidence, accuracy = np.asarray(bins, float).T
    edges = np.linspace(0, 1, len(count) + 1)
    texts = [f"{n:.0f} examples with confidence {edges[i]:g} to {edges[i + 1]:g}" for i, n in enumerate(count)]
    occupied = (count > 0) & np.isfinite(confidence) & np.isfinite(accuracy)
    x, y = confidence[occupied], accuracy[occupied]
    low, high = wilson(y * count[occupied], count[occupied])
    found = zip(x, y, low, high, strict=True)
    words = [(a, b, f"confidence {a:.3f}: accuracy {b:.3f}, 95 % interval {c:.3f} to {d:.3f}") for a, b, c, d in found]
    drawn = [
        marks.bars(edges, count / count.sum(), name="fraction of examples", texts=texts), _diagonal(),
        marks.intervals(x, low, high), marks.line(x, y, dots=True, name="accuracy, 95 % interval"), marks.values(words),
    ]  # fmt: skip
    label = "reliability: accuracy and fraction of examples per confidence bin"
    return _square(drawn, label, "reliability", "confidence", "accuracy")


def _diagonal() -> marks.Mark:
    return marks.line([0, 1], [0, 1], colour="var(--line)")


def _square(drawn, label, title, x, y) -> str:
    axes = {"x": Axis(x, limits=(-0.02, 1.02)), "y": Axis(y, limits=(-0.02, 1.04))}
    return chart(drawn, label=label, title=title, **axes, width=320, height=250)


def _name(c, names) -> str:
    return shortened(str(names[c]), 16) if 0 <= c < len(names) else str(c)
