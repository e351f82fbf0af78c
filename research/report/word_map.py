"""A chart of words: the nearest neighbours of some words, in the plane of the two largest principal components."""

from collections.abc import Sequence

import numpy as np

from research.errors import unknown
from research.html.chart import Axis, chart
from research.html.marks import label, look, points
from research.html.markup import Html
from research.metrics.word_vectors import neighbours, unit_rows


def word_map(words: Sequence[str], table: np.ndarray, *, around: Sequence[str], count: int = 8) -> Html:
    """Draw `count` neighbours of each word of `around`, in one colour with it, as an <svg> element.

    The components are those of the words that are drawn, with vectors [vocabulary, features] of length 1.
    Raises UserError for a word without a vector.
    """
    numbers = {word: i for i, word in enumerate(words)}
    for word in around:
        if word not in numbers:
            raise unknown("word", word, words[:5000])
    groups = [[numbers[word], *neighbours(table, numbers[word], count=count).tolist()] for word in around]
    drawn = unit_rows(table[[row for group in groups for row in group]])
    centred = drawn - drawn.mean(0)
    places = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    marks = []
    for i, group in enumerate(groups):
        part = places[i * (count + 1) :][: len(group)]
        marks.append(points(part[:, 0], part[:, 1], colour=look(i)["colour"], name=around[i]))
        marks += [label(x, y - 0.03, words[row], bold=row == group[0]) for (x, y), row in zip(part, group, strict=True)]
    axis = Axis(ticks=())
    return chart(marks, label=f"words near {', '.join(around)}", x=axis, y=axis, width=700, height=460)
