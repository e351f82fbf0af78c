"""Repeat rows of rare classes, or leave out rows of frequent ones."""

from __future__ import annotations

import numpy as np

from research.axes import Int, Shaped
from research.data.sampling.batches import check_seed, generator
from research.errors import UserError


def oversample(labels: Shaped[np.ndarray, " rows"], *, ratio: float = 1.0, seed: int) -> Int[np.ndarray, " places"]:
    """Return indices of all rows, and of random repeats of rare classes up to `ratio` times the largest class.

    Ascending. Repeats are drawn without replacement until all rows of a class have been repeated equally often. With
    ratio 1 all classes have the same count. Raises UserError for a ratio that is not above 0 and at most 1.
    """
    members, counts, rng = _classes(labels, ratio, seed)
    goal = int(np.ceil(ratio * counts.max()))
    parts = []
    for rows in members:
        times, rest = divmod(max(goal, len(rows)), len(rows))
        parts += [np.tile(rows, times), rng.permutation(rows)[:rest]]
    return np.sort(np.concatenate(parts))


def undersample(labels: Shaped[np.ndarray, " rows"], *, ratio: float = 1.0, seed: int) -> Int[np.ndarray, " places"]:
    """Return ascending indices of all rows of the rarest class, and at most 1 / `ratio` times as many of each other.

    The rows of a frequent class are drawn at random. With ratio 1 all classes have the same count. Raises UserError for
    a ratio that is not above 0 and at most 1.
    """
    members, counts, rng = _classes(labels, ratio, seed)
    goal = int(np.floor(counts.min() / ratio))
    return np.sort(np.concatenate([rng.permutation(rows)[:goal] for rows in members]))


def _classes(labels, ratio, seed):
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels):
        raise UserError(f"labels of shape {list(labels.shape)}; expected one label per row, [rows].")
    if not 0 < ratio <= 1:
        raise UserError(f"ratio={ratio}; expected a number above 0 and at most 1, the rarest to the largest class.")
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return [np.flatnonzero(classes == c) for c in range(len(counts))], counts, generator(check_seed(seed), "balance")
