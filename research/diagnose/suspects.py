"""Labels that are probably wrong, by confident learning; and features that give the label away."""

from typing import NamedTuple

import numpy as np

from research.diagnose.case import Case
from research.diagnose.data import inputs_of, labels_of
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.tables import Table, flat


class Suspects(NamedTuple):
    """`joint` [C, C]: the estimated share of all records that are labelled row and are truly column; `rows`: the
    records off its diagonal, most suspicious first; `proposed` [len(rows)]: what they look like.
    """

    joint: np.ndarray
    rows: np.ndarray
    proposed: np.ndarray


def confident_learning(labels, probabilities) -> Suspects:
    """Confident learning (Northcutt, Jiang & Chuang 2021, section 3): of int [n] labels 0..C-1 and out-of-sample
    probabilities [n, C].

    The threshold of a class is the mean probability of it among the records labelled so (equation 2). A record counts
    as truly j where its probability of j is above j's threshold, the largest of those where there are several
    (equation 1); counts are scaled to the labels' own (equation 3). Suspects are those off the diagonal, ranked by
    p(given label) - max p(other) (section 3.2, method 5's normalised margin).
    """
    labels, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    count = p.shape[1]
    own = p[np.arange(len(p)), labels]
    threshold = np.array([own[labels == c].mean() if (labels == c).any() else np.inf for c in range(count)])
    above = np.where(p >= threshold, p, -np.inf)
    sure, true = np.isfinite(above).any(1), above.argmax(1)
    counts = np.zeros((count, count))
    np.add.at(counts, (labels[sure], true[sure]), 1)
    given = np.bincount(labels, minlength=count)
    sums = counts.sum(1, keepdims=True)
    joint = np.where(sums > 0, counts / np.maximum(sums, 1), np.eye(count)) * given[:, None] / len(labels)
    off = np.flatnonzero(sure & (true != labels))
    other = p.copy()
    other[np.arange(len(p)), labels] = -np.inf
    order = np.argsort((own - other.max(1))[off], kind="stable")
    return Suspects(joint, off[order], true[off[order]])


def suspect_labels(case: Case, found: list[Table], *, most: int = 3_000) -> Outcome:
    """Training labels that two quick models, a linear one and the nearest neighbours, each out of fold and each by
    confident learning, both hold to be another and the same one. Two, since one weak model is often wrong by itself,
    and two of so different kinds seldom wrong alike.

    A problem from 5 % of the records on, if those are at least 0.35 of what the better model has wrong: on classes that
    are hard, and not mislabelled, two models err in more ways than one (0.25 to 0.29 on Fashion-MNIST; 0.4 to 0.6 where
    a fifth of its labels, or of the digits', are wrong). `most` records are looked at. Not said where neither model has
    learnt anything, or where there are fewer than 10 records a class.
    """
    rule, train = "suspect labels", found[0]
    picked = _matrix(case, found, most)
    if isinstance(picked, str):
        return Skipped(rule, picked)
    x, y, rows, classes = picked
    if len(classes) < 2 or np.bincount(y).min() < 10 or len(classes) > 200:
        return Skipped(rule, f"{len(classes)} classes, some of fewer than 10 records: too little to judge by")
    x = _components(x)
    both = [_out_of_fold(model, x, y) for model in _models()]
    agree = max(float((p.argmax(1) == y).mean()) for p in both)
    chance = float(np.bincount(y).max() / len(y))
    if agree < chance + 0.2 * (1 - chance):
        return Skipped(rule, f"quick models find {100 * agree:.0f} % of the labels: too few to judge by")
    sides = [confident_learning(y, p) for p in both]
    votes = [dict(zip(side.rows.tolist(), side.proposed.tolist(), strict=True)) for side in sides]
    bad = [i for i in votes[0] if votes[1].get(i) == votes[0][i]]
    share = len(bad) / len(y)
    looked = "" if len(y) == train.total else f" of {len(y):,} looked at"
    if share < 0.05 or share < 0.35 * (1 - agree):
        return Passed(rule, f"{len(bad)} ({100 * share:.1f} %{looked})")
    worst = [{"record": int(rows[i]), "label": int(classes[y[i]]), "looks like": int(classes[votes[0][i]])}
             for i in bad[:50]]  # fmt: skip
    shown = ", ".join(f"{w['record']} ({w['label']}, looks like {w['looks like']})" for w in worst[:5])
    text = f"About {100 * share:.0f} % of the training labels look wrong ({len(bad)}{looked}): records {shown}."
    return Finding(rule, True, text, (
        "look at them first: data[record]; then leave them out: subset(train, ...), or correct them",
        "smooth the labels: classify(model, smoothing=0.1)",
        "stop early: best=Best(\"valid/accuracy\"), early_stop(...); SAM keeps from learning wrong labels by heart",
    ), {"share": share, "records": [w["record"] for w in worst], "labels": [w["label"] for w in worst],
        "looks like": [w["looks like"] for w in worst]})  # fmt: skip


def giveaways(case: Case, found: list[Table], *, most: int = 3_000) -> Outcome:
    """Single features that alone tell the class: a decision tree on one feature, held out, that has 98 % right, and
    97 % of what the largest class leaves. Of many features those ten with the highest F statistic are tried.

    It is a leak more often than luck: an identifier, a field that was written after the label, the label itself. A
    problem where a feature is right on all, else worth a look.
    """
    rule = "label among the features"
    picked = _matrix(case, found, most)
    if isinstance(picked, str):
        return Skipped(rule, picked)
    from sklearn.feature_selection import f_classif
    from sklearn.model_selection import cross_val_score
    from sklearn.tree import DecisionTreeClassifier

    x, y, _, classes = picked
    if np.bincount(y).min() < 3 or len(classes) < 2:
        return Skipped(rule, "some classes have fewer than 3 records")
    varied = np.flatnonzero(np.ptp(x, 0) > 0)
    with np.errstate(all="ignore"):
        # Where a feature is the same in all of a class, rounding makes the F of it infinite, or huge of either sign.
        strength = np.abs(np.nan_to_num(f_classif(x[:, varied].astype(np.float64), y)[0], posinf=np.inf))
    told, chance, best = [], np.bincount(y).max() / len(y), 0.0
    for at in varied[np.argsort(-strength)[:10]]:
        tree = DecisionTreeClassifier(max_leaf_nodes=4 * len(classes), random_state=0)
        right = cross_val_score(tree, x[:, [at]], y, cv=3).mean()
        best = max(best, right)
        if right >= 0.98 and right - chance >= 0.97 * (1 - chance):
            told.append((int(at), float(right)))
    if not told:
        return Passed(rule, f"the best single feature alone has {100 * best:.0f} % right; always the largest class "
                      f"{100 * chance:.0f} %")  # fmt: skip
    shown = ", ".join(f"{at} ({100 * right:.1f} %)" for at, right in told)
    text = f"Single features tell the class almost alone: {shown}, of {x.shape[1]} in the order of the flat record."
    # Classes that are far apart come near it; the label itself, or its code, is always right.
    return Finding(rule, max(right for _, right in told) > 0.9995, text, (
        "look at the feature: is it there, and the same, when the label is not yet known?",
        "drop it: features = np.delete(features, [...], axis=1)",
    ), {"features": [at for at, _ in told], "accuracy": [right for _, right in told]})  # fmt: skip


def _models():
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    return LogisticRegression(C=1.0, max_iter=100), KNeighborsClassifier(10)


def _components(x, width: int = 40):
    """The first principal components of [n, F], whose largest has a standard deviation of 1."""
    from sklearn.decomposition import PCA

    width = min(width, *x.shape)
    x = PCA(width, svd_solver="full" if min(x.shape) < 100 else "randomized", random_state=0).fit_transform(x)
    return x / (x.std() + 1e-6)


def _out_of_fold(model, x, y):
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a quick model need not be at its optimum
        folds = StratifiedKFold(4, shuffle=True, random_state=0)
        return cross_val_predict(model, x, y, cv=folds, method="predict_proba")


def _matrix(case, found, most):
    """(features [n, F] of unit scale, classes by number [n], records [n], the classes), or why there is none."""
    train = found[0]
    labels = labels_of(case, found[:1]).get(train.name)
    names = [name for name in inputs_of(case, train) if train.fields[name].dtype.kind in "fu"]
    if labels is None or not names:
        return "the training records have no labels, or no numbers beside them"
    if train.drawn:
        return "the training source draws its batches itself"
    keep = np.flatnonzero(labels >= 0)
    keep = np.sort(np.random.default_rng(0).permutation(keep)[:most])
    x = np.concatenate([flat(train.fields[name][keep]) for name in names], 1)
    sound = np.isfinite(x).all(1)
    x, keep = x[sound], keep[sound]
    if len(x) < 20:
        return f"{len(x)} labelled records: too few to judge by"
    if train.fields[names[0]].ndim > 2:
        x = (x - x.mean()) / (x.std() + 1e-6)
        if x.shape[1] > 4096:
            x = x[:, :: -(-x.shape[1] // 4096)]
    else:
        spread = x.std(0)
        x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    classes, y = np.unique(labels[keep], return_inverse=True)
    return x, y, train.rows[keep], classes
