"""Splits: which records belong to which part. The seed of a split is part of the data, not of the run.

Five runs with five seeds must be tested on the same records; so a split takes a seed of its own, which an experiment
fixes and does not change with the run's.
"""

import warnings
from typing import NamedTuple

import numpy as np

from research.data.sampling.batches import check_seed, generator
from research.data.sampling.mixture import largest_remainder
from research.errors import UserError


def stratified(labels, sizes, *, seed: int) -> list[np.ndarray]:
    """Parts with the classes in the proportion of the whole: index arrays i64, ascending, without overlap.

    `labels` [n] are numbers or strings; `sizes` are counts, one of which may be None for all that is left. Each part
    in turn takes its classes from what is left by the largest remainder, so each is within one record of its share;
    a class too rare for a part is absent from it. Same counts as scikit-learn's StratifiedShuffleSplit.
    Raises UserError for sizes that do not fit.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise UserError(f"labels of shape {list(labels.shape)}; expected one label a record, [n].")
    counts = _counts(len(labels), sizes)
    rng = generator(check_seed(seed), "split")
    _, classes = np.unique(labels, return_inverse=True)
    members = [rng.permutation(np.flatnonzero(classes == c)) for c in range(classes.max() + 1)]
    parts = []
    for count in counts:
        shares = largest_remainder([len(left) for left in members], count)
        parts.append(np.sort(np.concatenate([left[:share] for left, share in zip(members, shares, strict=True)])))
        members = [left[share:] for left, share in zip(members, shares, strict=True)]
    return parts


def shuffled(n: int, sizes, *, seed: int) -> list[np.ndarray]:
    """Parts of `n` records drawn at random without regard to classes; otherwise as `stratified`."""
    order = generator(check_seed(seed), "split").permutation(n)
    ends = np.cumsum([0, *_counts(n, sizes)])
    return [np.sort(order[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]


class Fold(NamedTuple):
    """The records to train on and those to test on: index arrays i64, ascending, without overlap."""

    train: np.ndarray
    test: np.ndarray


def folds(n: int, k: int, *, seed: int, labels=None, groups=None) -> list[Fold]:
    """`k` Folds of `n` records: every record is tested in exactly one of them, and trained on in the others.

    With `labels` [n] each fold has the classes in the proportion of the whole, as nearly as can be; with `groups` [n]
    (patients, documents) no group is both trained and tested on. By scikit-learn's KFold, StratifiedKFold, GroupKFold
    and StratifiedGroupKFold, shuffled by `seed`. A class with fewer than `k` records is absent from some folds.

    Raises UserError for `k` below 2 or above the number of records, groups or of the most frequent class's records,
    and for labels or groups that are not one a record.
    """
    from sklearn import model_selection

    given = {"labels": labels, "groups": groups}
    given = {name: np.asarray(values) for name, values in given.items() if values is not None}
    for name, values in given.items():
        if values.shape != (n,):
            raise UserError(f"{name} of shape {list(values.shape)}; expected one a record, [{n}].")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 2:
        raise UserError(f"{k!r} folds; expected a whole number of at least 2.")
    if labels is None:
        kind = model_selection.KFold if groups is None else model_selection.GroupKFold
    else:
        kind = model_selection.StratifiedKFold if groups is None else model_selection.StratifiedGroupKFold
    split = kind(k, shuffle=True, random_state=check_seed(seed))
    classes = np.unique(labels, return_inverse=True)[1] if labels is not None else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a class with fewer than k records
            return [Fold(*map(np.sort, fold)) for fold in split.split(np.zeros(n), classes, given.get("groups"))]
    except ValueError as error:
        raise UserError(f"{k} folds of {n} records: {error}") from error


def _counts(n, sizes):
    sizes = list(sizes)
    if sizes.count(None) > 1:
        raise UserError(f"split sizes {sizes}: only one of them may be None, the rest.")
    for size in sizes:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer)):
            raise UserError(f"split sizes {sizes}: expected counts of records, and None for the rest.")
    given = sum(size for size in sizes if size is not None)
    counts = [n - given if size is None else int(size) for size in sizes]
    if given > n or any(count < 1 for count in counts):
        raise UserError(
            f"split sizes {sizes} of {n} records: every part needs at least one record, and they share {n}."
        )
    return counts
