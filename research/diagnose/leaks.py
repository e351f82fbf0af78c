"""Columns that leak the target: a single one predicts it almost alone."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from research.data import schema as schemas
from research.data.readers.cells import present, strings
from research.errors import unknown

NEARLY, OF_TWO, SURE = 0.96, 0.9, 0.9995  # scores of a leak: of values, of values for two classes, and without doubt
NO_REASON = 0.5  # the score of a leak in an identifier, or in which values are missing
RANKED = 0.995  # the ROC area of a leak, for two classes
FOLDS = 3
CLASSES = 200


class Leak(NamedTuple):
    """A column that predicts the target.

    `score` is the fraction of the error of a constant prediction that a prediction from this column alone avoids,
    cross-validated: of the wrong classes (the lambda of Goodman & Kruskal 1954), or, for a target that is a number, of
    the variance of its ranks. `area` is the area under the ROC curve, NaN unless there are two classes. `origin` is
    "values", "missing values" or "order", that of an identifier. `certain`: no record, or nearly none, is an exception.
    """

    column: str
    score: float
    area: float
    origin: str
    certain: bool

    def __str__(self):
        area = "" if np.isnan(self.area) else f", ROC area {self.area:.3f}"
        origin = {"values": "", "missing values": "which values are missing, ", "order": "its order, "}[self.origin]
        return f"{self.column} ({origin}{100 * self.score:.1f} % of the error{area})"


def leaking_columns(
    columns: Mapping[str, np.ndarray], *, schema: schemas.Schema, target: str, most: int = 20_000, seed: int = 0
) -> list[Leak]:  # fmt: skip
    """Return the columns that leak the target, the highest score first.

    `columns` are raw columns [n] (`research.data.readers.cells`) with their schema. Up to `most` random rows are used,
    and fewer, but at least 300, if there are more than 100 columns.

    Such a column is usually one that was written after the target was known. A number or date is a leak if a decision
    tree on it has a score of at least 0.96, for two classes of at least 0.9, or a ROC area of at least 0.995; a
    category, if the most frequent class of its rows has. Real measurements come close: the width of its petals predicts
    the kind of an iris with a score of 0.94. A score of classes must therefore exceed the limit by its standard error.
    An identifier, and the knowledge which values are missing, should predict nothing: there, the limit is 0.5. Text
    columns are not examined, and neither is a target with fewer than 30 rows, with a single class of 3 rows or more, or
    with more than 200 classes.

    Raises UserError for an unknown target.
    """
    if target not in schema or target not in columns:
        raise unknown("target column", target, columns)
    known = present(columns[target])
    if columns[target].dtype.kind == "f":
        known &= np.isfinite(columns[target])
    rows = np.flatnonzero(known)
    most = min(most, max(300, 2_000_000 // len(schema)))
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    taken = {name: columns[name][rows] for name in schema if name in columns}
    coded, _ = schemas.code(lenient(schema, [name for name in taken if schema[name].kind != "text"]), taken)
    is_class = schema[target].kind == "category"
    y = coded[target] if is_class else _ranks(coded[target])
    if is_class:
        y = np.unique(y, return_inverse=True)[1]
    if len(rows) < 10 * FOLDS or np.ptp(y) == 0:
        return []
    if is_class and (np.sort(np.bincount(y))[-2] < FOLDS or y.max() >= CLASSES):
        return []
    found = []
    for name, column in schema.items():
        if name == target or name not in taken:
            continue
        if column.kind == "identifier":
            values = coded[name] if name in coded else _order(taken[name])
            found.append(_leak(name, values, y, is_class, "order", seed=seed))
            continue
        if name not in coded:
            continue
        origin = "order" if schemas.is_key(name) and column.kind == "integer" else "values"
        group = column.kind == "category"
        found.append(_leak(name, coded[name], y, is_class, origin, seed=seed, group=group))
        if (missing := np.isnan(coded[name])).any():
            found.append(_leak(name, missing.astype(np.float64), y, is_class, "missing values", seed=seed))
    best = {}
    for leak in sorted(filter(None, found), key=lambda leak: -leak.score):
        best.setdefault(leak.column, leak)
    return list(best.values())


def lenient(schema: schemas.Schema, names) -> dict[str, schemas.Column]:
    """Return the schema of some columns in which no value is refused: an unexpected one is missing."""
    return {name: schema[name]._replace(otherwise="missing", low=None, high=None) for name in names}


def _leak(name, values, y, is_class, origin, *, seed, group=False) -> Leak | None:
    """Return a column, f64 [n] with NaN for missing values, as a Leak if it is one."""
    if len(np.unique(values)) < 2:
        return None
    predicted = (_of_groups if group else _of_tree)(values, y, is_class, seed)
    if is_class:
        wrong = float((predicted.argmax(1) != y).mean())
        constant = 1 - np.bincount(y).max() / len(y)
        score, error = 1 - wrong / constant, np.sqrt(wrong * (1 - wrong) / len(y)) / constant
    else:
        score, error = 1 - float(((predicted[:, 0] - y) ** 2).mean() / y.var()), 0.0
    area = np.nan
    if is_class and predicted.shape[1] == 2:
        from sklearn.metrics import roc_auc_score

        area = float(roc_auc_score(y, predicted[:, 1]))
        if not group and not np.isnan(values).any():  # a tree of few leaves has ties
            ranked = float(roc_auc_score(y, values))
            area = max(area, ranked, 1 - ranked)
    limit = NO_REASON if origin != "values" else OF_TWO if is_class and predicted.shape[1] == 2 else NEARLY
    leaks = score - error >= limit or area >= RANKED
    return Leak(name, score, area, origin, score >= SURE) if leaks else None


def _folds(y, seed):
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # stratified, also by a target that is a number
    for fold in range(FOLDS):
        test = np.zeros(len(y), bool)
        test[order[fold::FOLDS]] = True
        yield np.flatnonzero(~test), np.flatnonzero(test)


def _of_tree(values, y, is_class, seed) -> np.ndarray:
    """Return out-of-fold predictions of a decision tree: probabilities [n, classes], or numbers [n, 1]."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    predicted = np.zeros((len(y), y.max() + 1 if is_class else 1))
    values = np.clip(values, -1e30, 1e30)  # the trees of scikit-learn add in f32
    leaves = 4 * predicted.shape[1] if is_class else 256
    for train, test in _folds(y, seed):
        tree = (DecisionTreeClassifier if is_class else DecisionTreeRegressor)(max_leaf_nodes=leaves, random_state=0)
        tree.fit(values[train, None], y[train])
        if is_class:
            predicted[np.ix_(test, tree.classes_)] = tree.predict_proba(values[test, None])
        else:
            predicted[test, 0] = tree.predict(values[test, None])
    return predicted


def _of_groups(values, y, is_class, seed) -> np.ndarray:
    """Like `_of_tree`, by the class frequencies or the mean of the training rows with the same category."""
    codes = np.unique(values, return_inverse=True)[1]
    targets = np.eye(y.max() + 1)[y] if is_class else y[:, None]
    predicted = np.zeros(targets.shape)
    for train, test in _folds(y, seed):
        sums = np.zeros((codes.max() + 1, targets.shape[1]))
        np.add.at(sums, codes[train], targets[train])
        counts = np.bincount(codes[train], minlength=len(sums))[:, None]
        means = np.where(counts > 0, sums / np.maximum(counts, 1), targets[train].mean(0))
        predicted[test] = means[codes[test]]
    return predicted


def _ranks(values):
    from scipy.stats import rankdata

    return rankdata(values) / len(values)


def _order(identifiers) -> np.ndarray:
    """Return the place of each identifier in the sorted order, numbers by their size; NaN if missing."""
    text = strings(identifiers)
    places = {value: place for place, value in enumerate(sorted(set(text), key=lambda value: (len(value), value)))}
    return np.where(text == "", np.nan, np.array([places[value] for value in text], np.float64))
