"""Ranking and calibration plots of a classifier: ROC, precision-recall and reliability curves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.html.figure import COLOURS, FAINT, inline_svg, new_figure, style
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
    plots = []
    with style():
        for draw, content in drawn:
            figure, (ax,) = new_figure(3.5, 3.3)
            label = draw(ax, content, names)
            plots.append(inline_svg(figure, label=label))
    return plots, remark


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


def _roc(ax, curves: Mapping[int, Curve], names) -> str:
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    mean = np.mean([np.interp(GRID, np.r_[0, curve.x], np.r_[0, curve.y]) for curve in curves.values()], axis=0)
    _draw(ax, curves, names, (np.r_[0, GRID], np.r_[0, mean]), steps=None, place="lower right")
    _square(ax, "ROC", "false positive rate", "true positive rate")
    return f"ROC curve; area {np.mean([curve.area for curve in curves.values()]):.4f}"


def _precision_recall(ax, curves: Mapping[int, Curve], names) -> str:
    interpolated = [curve.y[np.minimum(np.searchsorted(curve.x, GRID), len(curve.x) - 1)] for curve in curves.values()]
    _draw(ax, curves, names, (GRID, np.mean(interpolated, axis=0)), steps="steps-pre", place="lower left")
    _square(ax, "precision-recall", "recall", "precision")
    return f"precision-recall curve; average precision {np.mean([curve.area for curve in curves.values()]):.4f}"


def _draw(ax, curves, names, mean, *, steps, place):
    line_style = {} if steps is None else {"drawstyle": steps}
    areas = {c: curve.area for c, curve in curves.items()}
    worst = min(areas, key=areas.get)
    for c, curve in curves.items():
        single, lowest = len(curves) == 1, c == worst
        colour = COLOURS[0] if single else COLOURS[1] if lowest else "#9a9a9a"
        label = f"{_name(c, names)}: {areas[c]:.3f}" if single else f"worst, {_name(c, names)}: {areas[c]:.3f}"
        ax.plot(curve.x, curve.y, color=colour, label=label if single or lowest else None, zorder=3 if lowest else 2,
                linewidth=1.6 if single else 1.3 if lowest else 0.6, **line_style)  # fmt: skip
    if len(curves) > 1:
        label = f"mean of {len(curves)}: {np.mean(list(areas.values())):.3f}"
        ax.plot(*mean, color=COLOURS[0], label=label, linewidth=1.8, zorder=4, **line_style)
    ax.legend(loc=place, title="area")


def _reliability(ax, bins, names) -> str:
    count, confidence, accuracy = np.asarray(bins, float).T
    edges = np.linspace(0, 1, len(count) + 1)
    ax.bar(edges[:-1], count / count.sum(), width=np.diff(edges), align="edge", color="#9a9a9a", alpha=0.35,
           label="fraction of examples")  # fmt: skip
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    occupied = (count > 0) & np.isfinite(confidence) & np.isfinite(accuracy)
    x, y = confidence[occupied], accuracy[occupied]
    low, high = wilson(y * count[occupied], count[occupied])
    ax.vlines(x, low, high, color=COLOURS[0], linewidth=1, alpha=0.7)
    ax.plot(x, y, color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.4, label="accuracy (95 % interval)")
    # Below the axes, because points may lie anywhere inside.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=1.4, columnspacing=1.0)
    _square(ax, "reliability", "confidence", "accuracy")
    return "reliability: accuracy and fraction of examples per confidence bin"


def _square(ax, title, x, y):
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xlabel=x, ylabel=y, title=title)


def _name(c, names) -> str:
    return shortened(str(names[c]), 16) if 0 <= c < len(names) else str(c)
