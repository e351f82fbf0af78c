"""Split records into parts. The seed of a split belongs to the data, not to the run.

Runs with different seeds must be tested on the same records. A split therefore has its own seed, a constant of the
experiment that does not depend on the seed of the run.
"""

import warnings
from typing import NamedTuple

import numpy as np

from research.data.sampling.batches import check_seed, generator
from research.data.sampling.mixture import largest_remainder
from research.errors import UserError


def stratified(labels, sizes, *, seed: int) -> list[np.ndarray]:
    """Split records at random into parts with the class proportions of the complete data.

    Returns disjoint index arrays, i64, ascending. `labels` [n] are numbers or strings. `sizes` are counts; one of them
    may be None, which means all remaining records. Parts are drawn one after the other from the remaining records, with
    class counts by the largest remainder method. Each count is thus within one record of its exact proportion; a class
    that is too rare for a part is absent from it. Class counts equal those of scikit-learn's StratifiedShuffleSplit.
    Raises UserError for sizes that do not fit, and for labels that are not [n].
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise UserError(f"labels of shape {list(labels.shape)}; expected one label per record, [n].")
    counts = _counts(len(labels), sizes)
    rng = generator(check_seed(seed), "split")
    _, classes = np.unique(labels, return_inverse=True)
    members = [rng.permutation(np.flatnonzero(classes == c)) for c in range(classes.max() + 1)]
    parts = []
    for count in counts:
        quotas = largest_remainder([len(left) for left in members], count)
        parts.append(np.sort(np.concatenate([left[:quota] for left, quota in zip(members, quotas, strict=True)])))
        members = [left[quota:] for left, quota in zip(members, quotas, strict=True)]
    return parts


def shuffled(n: int, sizes, *, seed: int) -> list[np.ndarray]:
    """Split `n` records at random into parts, without stratification; otherwise like `stratified`."""
    order = generator(check_seed(seed), "split").permutation(n)
    ends = np.cumsum([0, *_counts(n, sizes)])
    return [np.sort(order[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]


class Fold(NamedTuple):
    """The training and test records of a fold: disjoint index arrays, i64, ascending."""

    train: np.ndarray
    test: np.ndarray


def folds(n: int, k: int, *, seed: int, labels=None, groups=None) -> list[Fold]:
    """Split `n` records into `k` Folds for cross-validation.

    Every record is a test record in exactly one fold and a training record in all others.
    With `labels` [n], each fold has nearly the class proportions of the complete data. With `groups` [n] (patients,
    documents), no group is in both training and test of a fold. Uses scikit-learn's KFold, StratifiedKFold, GroupKFold
    or StratifiedGroupKFold, shuffled with `seed`. A class with fewer than `k` records is absent from some folds.

    Raises UserError for `k` below 2 or above the number of records, of groups, or of records of the most frequent
    class, and for labels or groups that are not [n].
    """
    from sklearn import model_selection

    columns = {"labels": labels, "groups": groups}
    columns = {name: np.asarray(values) for name, values in columns.items() if values is not None}
    for name, values in columns.items():
        if values.shape != (n,):
            raise UserError(f"{name} of shape {list(values.shape)}; expected one per record, [{n}].")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 2:
        raise UserError(f"{k!r} folds; expected an integer of at least 2.")
    if labels is None:
        kind = model_selection.KFold if groups is None else model_selection.GroupKFold
    else:
        kind = model_selection.StratifiedKFold if groups is None else model_selection.StratifiedGroupKFold
    split = kind(k, shuffle=True, random_state=check_seed(seed))
    classes = np.unique(labels, return_inverse=True)[1] if labels is not None else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # warns of a class with fewer than k records
            return [Fold(*map(np.sort, fold)) for fold in split.split(np.zeros(n), classes, columns.get("groups"))]
    except ValueError as error:
        raise UserError(f"cannot make {k} folds of {n} records: {error}") from error


def _counts(n, sizes):
    sizes = list(sizes)
    if sizes.count(None) > 1:
        raise UserError(f"split sizes {sizes}: expected at most one None, for the remaining records.")
    for size in sizes:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer)):
            raise UserError(f"split sizes {sizes}: expected numbers of records, or None for the remaining records.")
    total = sum(size for size in sizes if size is not None)
    counts = [n - total if size is None else int(size) for size in sizes]
    if total > n or any(count < 1 for count in counts):
        raise UserError(
            f"split sizes {sizes} of {n} records: every part needs at least one record, and the sum is at most {n}."
        )
    return counts
