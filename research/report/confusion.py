"""Confusion matrices as figures and tables, per-class metrics and the most confused pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.html.figure import COLOURS, inline_svg, new_figure, style, write_png
from research.html.markup import shortened

READABLE = 20  # classes; with more, the counts in the cells would be too small to read


class PerClass(NamedTuple):
    """One class: its number of examples, precision, recall and F1; None if the denominator is 0."""

    name: str
    count: int
    precision: float | None
    recall: float | None
    f1: float | None


class Pair(NamedTuple):
    """`count` examples of class `true` were predicted as `predicted`; `share` is their fraction of class `true`."""

    true: str
    predicted: str
    count: int
    share: float


def per_class(matrix, names: Sequence[str]) -> list[PerClass]:
    """Compute precision, recall and F1 of each class from counts [C, C] (rows: true, columns: predicted)."""
    matrix = np.asarray(matrix, float)
    table = []
    for i, name in enumerate(names):
        hits, true, predicted = matrix[i, i], matrix[i].sum(), matrix[:, i].sum()
        f1 = 2 * hits / (true + predicted) if true + predicted else None
        precision, recall = hits / predicted if predicted else None, hits / true if true else None
        table.append(PerClass(name, int(true), precision, recall, f1))
    return table


def most_confused(matrix, names: Sequence[str], *, limit: int = 20) -> list[Pair]:
    """Return the pairs of different classes with the most errors, largest first; ties in class order."""
    wrong = np.array(matrix, float)
    total = wrong.sum(axis=1)
    np.fill_diagonal(wrong, 0)
    order = [divmod(int(index), len(wrong)) for index in np.argsort(-wrong, axis=None, kind="stable")[:limit]]
    return [Pair(names[i], names[j], int(wrong[i, j]), wrong[i, j] / total[i]) for i, j in order if wrong[i, j] > 0]


def row_names(count: int, given=None) -> list[str]:
    """Return the names of `count` classes: those in `given` if their number matches, otherwise the indices."""
    fits = given is not None and len(given) == count
    return [str(name) for name in given] if fits else [str(i) for i in range(count)]


def is_confusion(matrix) -> bool:
    """Return whether `matrix` is a square table of two or more classes."""
    return matrix is not None and matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 1


def picture(matrix, names: Sequence[str], *, path=None, label: str) -> str:
    """Draw the matrix [C, C] as an SVG element, and as a PNG at `path`: counts, shaded by the fraction of the row."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    matrix = np.asarray(matrix, float)
    count = len(matrix)
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shading = np.sqrt(fractions)  # on a linear scale, an error rate of 2 % would be invisible
    blue = to_rgb(COLOURS[0])
    clear_to_blue = LinearSegmentedColormap.from_list("clear_to_blue", [(*blue, 0.0), (*blue, 1.0)])  # any background
    short = [shortened(name, 22) for name in names]
    longest = max(len(name) for name in short) if count <= READABLE else 0
    margin = 0.9 + 0.07 * longest
    side = max(0.42 * count, 1.5) if count <= READABLE else 5
    with style():
        figure, (ax,) = new_figure(side + margin, side + (margin if longest > 3 else 0.7))
        ax.imshow(shading, cmap=clear_to_blue, vmin=0, vmax=1, interpolation="none")
        ax.grid(False)
        ax.spines[:].set_visible(True)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")
        if count <= READABLE:
            rotation = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest > 3 else {}
            ax.set_xticks(range(count), short, **rotation)
            ax.set_yticks(range(count), short)
            for i, j in zip(*np.nonzero(matrix), strict=True):
                ax.text(j, i, _count(matrix[i, j]), ha="center", va="center", fontsize=8)
        if path is not None:
            write_png(figure, path)
        return inline_svg(figure, label=label)


def _count(value) -> str:
    return f"{value:.0f}" if value < 1e5 else f"{value / 1e3:.0f}k" if value < 1e7 else f"{value / 1e6:.0f}M"
