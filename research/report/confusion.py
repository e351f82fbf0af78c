"""Confusion matrices as figures and tables, per-class metrics and the most confused pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.html import marks
from research.html.chart import Axis, chart, save
from research.html.markup import percent, png_uri, shortened

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


def picture(
    matrix, names: Sequence[str], *, path=None, label: str, axes=("predicted", "true"), totals=None
) -> str:  # fmt: skip
    """Draw the matrix [C, C] as an SVG element, and as a file at `path`: counts, shaded by fractions of `totals`.

    `totals` [C] are by default the sums of the rows. `axes` are the names of columns and rows.
    """
    matrix = np.asarray(matrix, float)
    totals = matrix.sum(axis=1) if totals is None else np.asarray(totals)
    fractions = matrix / np.maximum(totals[:, None], 1)
    shading = np.sqrt(fractions)  # on a linear scale, an error rate of 2 % would be invisible
    count, limits, ticks = len(matrix), (-0.5, len(matrix) - 0.5), ()
    if count <= READABLE:
        words = [[_count(value) if value else "" for value in row] for row in matrix]
        titles = [
            [f"{axes[1]} {names[i]}, {axes[0]} {names[j]}: {matrix[i, j]:.0f} ({percent(fractions[i, j])})"
             for j in range(count)] for i in range(count)
        ]  # fmt: skip
        mark, side = marks.cells(shading, words=words, titles=titles), max(40 * count, 140)
        ticks = [(i, shortened(name, 22)) for i, name in enumerate(names)]
    else:
        blue = [int(marks.COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
        pixels = np.concatenate([np.full((count, count, 3), blue), 255 * shading[..., None]], axis=-1)
        mark, side = marks.image(png_uri(pixels.round().astype(np.uint8)), x=limits, y=limits), 480
    x = Axis(axes[0], limits=limits, ticks=ticks)
    y = Axis(axes[1], limits=limits, ticks=ticks, down=True)
    drawn = chart([mark], label=label, x=x, y=y, inner=side, height=side, grid=False)
    if path is not None:
        save([drawn], path)
    return drawn


def _count(value) -> str:
    return f"{value:.0f}" if value < 1e5 else f"{value / 1e3:.0f}k" if value < 1e7 else f"{value / 1e6:.0f}M"
