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

    Returns disjoint index arrays, i64, ascending. `labels` [n] are numbers or strings. `sizes` are counts, or fractions
    below 1 of all records, rounded by the largest remainder method; one of them may be None, which means all remaining
    records. Parts are drawn one after the other from the remaining records, with
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


def grouped(groups, sizes, *, seed: int, labels=None) -> list[np.ndarray]:
    """Split records into parts so that all records of a group (a patient, a document) are in one part.

    Returns disjoint index arrays, i64, ascending. `groups` [n] and `sizes` as in `stratified`; the sizes are met as
    nearly as whole groups allow. With `labels` [n], each part also has nearly the class proportions of the complete
    data. Groups are placed one by one, the largest first, where they bring sizes and class counts closest to the goal.
    Raises UserError for sizes that do not fit, for fewer groups than parts, and for arrays that are not [n].
    """
    groups = _column(groups, "groups")
    labels = np.zeros(len(groups)) if labels is None else _column(labels, "labels")
    if labels.shape != groups.shape:
        raise UserError(f"labels of shape {list(labels.shape)}; expected one per record, [{len(groups)}].")
    counts = _counts(len(groups), sizes)
    _, group, group_sizes = np.unique(groups, return_inverse=True, return_counts=True)
    _, classes = np.unique(labels, return_inverse=True)
    table = np.zeros((len(group_sizes), classes.max() + 1))  # records of each class in each group
    np.add.at(table, (group, classes), 1)
    rest = len(groups) - sum(counts)
    goal = np.outer([*counts, rest] if rest else counts, table.sum(0) / len(groups))
    have, part = np.zeros_like(goal), np.empty(len(table), np.int64)
    order = generator(check_seed(seed), "split").permutation(len(table))
    for one in order[np.argsort(-group_sizes[order], kind="stable")]:
        change = ((have + table[one] - goal) ** 2 - (have - goal) ** 2) / table.sum(0) ** 2
        part[one] = np.argmin(change.sum(1))
        have[part[one]] += table[one]
    parts = [np.flatnonzero(part[group] == i) for i in range(len(counts))]
    if not all(map(len, parts)):
        raise UserError(f"split sizes {list(sizes)}: {len(table)} groups do not fill {len(counts)} parts.")
    return parts


def chronological(times, sizes, *, groups=None) -> list[np.ndarray]:
    """Split records by time: every record of a part is later than every record of the parts before it.

    Returns disjoint index arrays, i64, ascending. `times` [n] are numbers or datetime64, in any order, `sizes` as in
    `stratified`. Records of the same time are in the same part, the later one. With `groups` [n], all records of a
    group are in one part, and every group of a part ends later than those of the parts before it.
    Raises UserError for sizes that do not fit, for too few different times, and for arrays that are not [n].
    """
    times = _column(times, "times")
    counts = _counts(len(times), sizes)
    _, places = np.unique(times, return_inverse=True)
    if groups is not None:
        groups = _column(groups, "groups")
        if groups.shape != times.shape:
            raise UserError(f"groups of shape {list(groups.shape)}; expected one per record, [{len(times)}].")
        _, group = np.unique(groups, return_inverse=True)
        last = np.zeros(group.max() + 1, np.int64)
        np.maximum.at(last, group, places)
        places = last[group]
    order = np.argsort(places, kind="stable")
    sorted_places = places[order]
    ends = [0, *np.cumsum(counts)]
    ends = [int(np.searchsorted(sorted_places, sorted_places[end])) if end < len(times) else end for end in ends]
    parts = [np.sort(order[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    if not all(map(len, parts)):
        raise UserError(f"split sizes {list(sizes)}: a part is empty, because too many records have the same time.")
    return parts


class Fold(NamedTuple):
    """The training and test records of a fold: disjoint index arrays, i64, ascending."""

    train: np.ndarray
    test: np.ndarray


class NestedFold(NamedTuple):
    """The training and test records of an outer fold, and the inner Folds of its training records."""

    train: np.ndarray
    test: np.ndarray
    inner: list[Fold]


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


def nested_folds(n: int, outer: int, inner: int, *, seed: int, labels=None, groups=None) -> list[NestedFold]:
    """Split `n` records into `outer` folds, and the training records of each into `inner` folds.

    Choose hyperparameters on the inner folds, and test the choice on the outer ones. Other arguments, and errors, as in
    `folds`; the indices of the inner folds are those of all `n` records too.
    """
    columns = {"labels": labels, "groups": groups}
    columns = {name: np.asarray(values) for name, values in columns.items() if values is not None}
    found = []
    for fold in folds(n, outer, seed=seed, **columns):
        within = {name: values[fold.train] for name, values in columns.items()}
        parts = folds(len(fold.train), inner, seed=seed, **within)
        found.append(NestedFold(*fold, [Fold(*(fold.train[rows] for rows in part)) for part in parts]))
    return found


def time_folds(times, k: int, *, gap: int = 0, test: int | None = None) -> list[Fold]:
    """Make `k` Folds of a time series: each is trained on what was before its test records.

    `times` [n] are numbers or datetime64, in any order. The test records are `k` stretches of `test` records, by
    default n // (k + 1), up to the last record; `gap` records before each are left out. Records of the same time as
    the first test record are not trained on. Otherwise these are the folds of scikit-learn's TimeSeriesSplit, and a
    last training record before the gap has an earlier time than every test record.

    Raises UserError for times that are not [n] or missing, and for more folds than the records allow.
    """
    from sklearn.model_selection import TimeSeriesSplit

    times = _column(times, "times")
    order = np.argsort(times, kind="stable")
    try:
        split = list(TimeSeriesSplit(k, gap=gap, test_size=test).split(order))
    except ValueError as error:
        raise UserError(f"cannot make {k} folds of {len(times)} records: {error}") from error
    parts = [(order[before], order[after]) for before, after in split]
    found = [Fold(np.sort(a[times[a] < times[b].min()]), np.sort(b)) for a, b in parts]
    if empty := [i for i, fold in enumerate(found) if not len(fold.train)]:
        raise UserError(f"fold {empty[0]} has no training record before its test records; use fewer folds.")
    return found


def _column(values, what) -> np.ndarray:
    """Return an array [n]. Raises UserError for another shape and for missing values."""
    values = np.asarray(values)
    if values.ndim != 1:
        raise UserError(f"{what} of shape {list(values.shape)}; expected one per record, [n].")
    if values.dtype.kind in "fM" and (missing := np.flatnonzero(values != values)).size:
        raise UserError(f"{what} are missing in {len(missing)} records, such as record {missing[0]}.")
    return values


def _counts(n, sizes):
    """Return the number of records of each part."""
    sizes = list(sizes)
    if sizes.count(None) > 1:
        raise UserError(f"split sizes {sizes}: expected at most one None, for the remaining records.")
    number = lambda size, kinds: isinstance(size, kinds) and not isinstance(size, bool)
    shares = [size for size in sizes if number(size, float | np.floating)]
    if any(not 0 < share < 1 for share in shares) or sum(shares) > 1 + 1e-9:
        raise UserError(f"split sizes {sizes}: expected fractions between 0 and 1, with a sum of at most 1.")
    if not all(size is None or number(size, int | np.integer | float | np.floating) for size in sizes):
        raise UserError(f"split sizes {sizes}: expected numbers of records, fractions, or None for the rest.")
    of_shares = iter(largest_remainder([*shares, max(0.0, 1 - sum(shares))], n)) if shares else iter(())
    sizes_given = [int(next(of_shares)) if number(size, float | np.floating) else size for size in sizes]
    total = sum(size for size in sizes_given if size is not None)
    counts = [n - total if size is None else int(size) for size in sizes_given]
    if total > n or any(count < 1 for count in counts):
        raise UserError(
            f"split sizes {sizes} of {n} records: every part needs at least one record, and the sum is at most {n}."
        )
    return counts
