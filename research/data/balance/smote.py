"""Synthetic minority over-sampling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.axes import Num, Shaped
from research.data.sampling.batches import check_seed, generator
from research.errors import UserError


class Balanced(NamedTuple):
    """The given rows, followed by the synthetic ones."""

    features: Num[np.ndarray, "places features"]
    labels: Shaped[np.ndarray, " places"]


def smote(
    features: Num[np.ndarray, "rows features"], labels: Shaped[np.ndarray, " rows"], *, k: int = 5, seed: int,
    categorical: tuple[int, ...] = (),
) -> Balanced:  # fmt: skip
    """Add synthetic rows until every class has the count of the largest (SMOTE; Chawla et al. 2002).

    A synthetic row lies at a random point between a row of its class and one of that row's `k` nearest neighbours of
    the class (Euclidean distance, thus scale the features first). `categorical` are indices of columns of codes
    (SMOTE-NC, section 6.1): two different codes count in the distance as the median of the standard deviations of the
    numeric columns of the rarest class, and a synthetic row takes the most frequent code among the neighbours.
    Raises UserError for features that are not [rows, features] and finite, for k below 1, and for a class that must
    grow but has only one row.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise UserError(
            f"features {list(features.shape)} and labels {list(labels.shape)}; expected [rows, features] and [rows]."
        )
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise UserError(f"row {row}, column {column} is {features[row, column]}; fill missing values before smote.")
    if k < 1:
        raise UserError(f"smote(k={k}); expected at least one neighbour.")
    from sklearn.neighbors import NearestNeighbors

    rng = generator(check_seed(seed), "smote")
    classes, counts = np.unique(labels, return_counts=True)
    codes = np.isin(np.arange(features.shape[1]), categorical)
    penalty = np.median(features[labels == classes[counts.argmin()]][:, ~codes].std(0)) if (~codes).any() else 1.0
    parts, names = [features], [labels]
    for name, count in zip(classes, counts, strict=True):
        missing = counts.max() - count
        if not missing:
            continue
        if count < 2:
            raise UserError(f"class {name!r} has one row; smote needs a neighbour. Use oversample.")
        rows = features[labels == name].astype(np.float64)
        neighbours = min(k, count - 1)
        search = NearestNeighbors(n_neighbors=neighbours + 1).fit(_coded(rows, codes, penalty))
        near = search.kneighbors(return_distance=False, n_neighbors=neighbours)  # of the rows, without themselves
        base = rng.integers(count, size=missing)
        other = near[base, rng.integers(neighbours, size=missing)]
        new = rows[base] + rng.random((missing, 1)) * (rows[other] - rows[base])
        for column in np.flatnonzero(codes):
            new[:, column] = [_mode(rows[near[row], column]) for row in base]
        parts.append(new.astype(features.dtype))
        names.append(np.full(missing, name, labels.dtype))
    return Balanced(np.concatenate(parts), np.concatenate(names))


def _coded(rows, codes, penalty):
    """Return rows in which two different codes are `penalty` apart: one-hot columns of length penalty / sqrt(2)."""
    columns = [rows[:, ~codes]]
    for column in np.flatnonzero(codes):
        columns.append((rows[:, column, None] == np.unique(rows[:, column])) * (penalty / np.sqrt(2)))
    return np.concatenate(columns, -1)


def _mode(values):
    names, counts = np.unique(values, return_counts=True)
    return names[counts.argmax()]
