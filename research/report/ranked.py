"""How well a classifier ranks, and what its confidence is worth: ROC, precision-recall and reliability curves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.html.figure import COLOURS, FAINT, inline_svg, new_figure, style
from research.html.markup import shortened
from research.metrics.scores import ranking
from research.runs.reader import Evaluation

POINTS, GRID = 120, np.linspace(0, 1, 201)  # a curve of more points is not seen to differ


class Curve(NamedTuple):
    """One class against the rest: the curve as drawn, x ascending, and the `area` under all of its points."""

    x: np.ndarray
    y: np.ndarray
    area: float


def ranked(found: Evaluation, names: Sequence[str]) -> tuple[list[str], str]:
    """(plots as SVG elements, a remark): ROC, precision-recall and reliability, as far as the evaluation allows.

    The first two are of the arrays `roc` and `precision_recall` (see `metrics.scores.ranking`), or of the rows label
    and probabilities; the third is of the array `reliability`. Of two classes they are of class 1; of more, each class
    against the rest and the mean of the classes. A class without an example is left out, and the remark says so.
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
            words = ", ".join(_name(c, names) for c in absent)
            remark = f"Not drawn, since the examples are all of it or none is: {words}."
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
    """{class: Curve} of points [P, 4]: class, false positive rate, true positive rate, threshold. The area is the AUC;
    a class for which a rate cannot be had is left out.
    """
    found = {}
    for c, own in _by_class(points).items():
        x, y = own[:, 1], own[:, 2]
        if np.isfinite(x).all() and np.isfinite(y).all():
            found[c] = Curve(*thinned(x, y), float(np.trapezoid(y, x)))
    return found


def precision_recall_curves(points) -> dict[int, Curve]:
    """{class: Curve} of points [P, 4]: class, recall, precision, threshold. The area is the average precision, that of
    the steps as they are drawn: a straight line between two points would promise too much (Davis & Goadrich 2006).
    """
    found = {}
    for c, own in _by_class(points).items():
        recall, precision = own[::-1, 1], own[::-1, 2]
        if np.isfinite(recall).all() and np.isfinite(precision).all():
            area = float(np.sum(np.diff(recall) * precision[1:]))
            found[c] = Curve(*thinned(recall, precision), area)
    return found


def thinned(x, y, *, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` of the points of a curve, evenly along it, with both ends."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) <= most:
        return x, y
    length = np.cumsum(np.r_[0, abs(np.diff(x)) + abs(np.diff(y))])
    at = np.unique(np.r_[0, np.searchsorted(length, np.linspace(0, length[-1], most - 1)), len(x) - 1])
    at = at[at < len(x)]
    return x[at], y[at]


def wilson(hits, count) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of Wilson 1927 for shares hits / count."""
    z, share = 1.959964, hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return middle - half, middle + half


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
    level = [curve.y[np.minimum(np.searchsorted(curve.x, GRID), len(curve.x) - 1)] for curve in curves.values()]
    _draw(ax, curves, names, (GRID, np.mean(level, axis=0)), steps="steps-pre", place="lower left")
    _square(ax, "precision and recall", "recall", "precision")
    return f"precision over recall; average precision {np.mean([curve.area for curve in curves.values()]):.4f}"


def _draw(ax, curves, names, mean, *, steps, place):
    how = {} if steps is None else {"drawstyle": steps}
    areas = {c: curve.area for c, curve in curves.items()}
    worst = min(areas, key=areas.get)
    for c, curve in curves.items():
        alone, last = len(curves) == 1, c == worst
        colour = COLOURS[0] if alone else COLOURS[1] if last else "#9a9a9a"
        label = f"{_name(c, names)}: {areas[c]:.3f}" if alone else f"worst, {_name(c, names)}: {areas[c]:.3f}"
        ax.plot(curve.x, curve.y, color=colour, label=label if alone or last else None, zorder=3 if last else 2,
                linewidth=1.6 if alone else 1.3 if last else 0.6, **how)  # fmt: skip
    if len(curves) > 1:
        label = f"mean of {len(curves)}: {np.mean(list(areas.values())):.3f}"
        ax.plot(*mean, color=COLOURS[0], label=label, linewidth=1.8, zorder=4, **how)
    ax.legend(loc=place, title="area")


def _reliability(ax, bins, names) -> str:
    count, confidence, accuracy = np.asarray(bins, float).T
    edges = np.linspace(0, 1, len(count) + 1)
    ax.bar(edges[:-1], count / count.sum(), width=np.diff(edges), align="edge", color="#9a9a9a", alpha=0.35,
           label="share of examples")  # fmt: skip
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    full = (count > 0) & np.isfinite(confidence) & np.isfinite(accuracy)
    x, y = confidence[full], accuracy[full]
    low, high = wilson(y * count[full], count[full])
    ax.vlines(x, low, high, color=COLOURS[0], linewidth=1, alpha=0.7)
    ax.plot(x, y, color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.4, label="accuracy, 95 %")
    ax.legend(loc="upper left")
    _square(ax, "reliability", "confidence", "accuracy")
    return "accuracy over confidence, in bins, and the share of examples in each"


def _square(ax, title, x, y):
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xlabel=x, ylabel=y, title=title)


def _name(c, names) -> str:
    return shortened(str(names[c]), 16) if 0 <= c < len(names) else str(c)
