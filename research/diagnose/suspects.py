"""Find labels that are probably wrong, by confident learning, and features that leak the label."""

from typing import NamedTuple

import numpy as np

from research.diagnose.case import Case
from research.diagnose.data import inputs_of, labels_of
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.tables import Table, flat


class Suspects(NamedTuple):
    """The result of confident learning.

    `joint` [C, C]: the estimated joint distribution of given label (row) and true class (column). `rows`: the records
    off the diagonal, most suspicious first. `proposed` [len(rows)]: their estimated true classes.
    """

    joint: np.ndarray
    rows: np.ndarray
    proposed: np.ndarray


def confident_learning(labels, probabilities) -> Suspects:
    """Apply confident learning to labels 0..C-1 and out-of-sample probabilities [n, C].

    The source is Northcutt, Jiang & Chuang 2021, section 3. The threshold of a class is its mean probability among the
    records with that label (equation 2). The true class of a record is j if its probability of j reaches the threshold
    of j; of several such classes, the most probable (equation 1). Counts are scaled to the label counts (equation 3).
    Suspects are the records off the diagonal, ranked by p(given label) - max p(other class) (section 3.2, the
    normalised margin of method 5).
    """
    labels, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    count = p.shape[1]
    own = p[np.arange(len(p)), labels]
    threshold = np.array([own[labels == c].mean() if (labels == c).any() else np.inf for c in range(count)])
    above = np.where(p >= threshold, p, -np.inf)
    sure, true = np.isfinite(above).any(1), above.argmax(1)
    counts = np.zeros((count, count))
    np.add.at(counts, (labels[sure], true[sure]), 1)
    label_counts = np.bincount(labels, minlength=count)
    sums = counts.sum(1, keepdims=True)
    joint = np.where(sums > 0, counts / np.maximum(sums, 1), np.eye(count)) * label_counts[:, None] / len(labels)
    off = np.flatnonzero(sure & (true != labels))
    other = p.copy()
    other[np.arange(len(p)), labels] = -np.inf
    order = np.argsort((own - other.max(1))[off], kind="stable")
    return Suspects(joint, off[order], true[off[order]])


def suspect_labels(case: Case, found: list[Table], *, most: int = 3_000) -> Outcome:
    """Find training labels that two quick models both contradict, with the same proposed class.

    The models are a linear classifier and nearest neighbours, each out of fold and each by confident learning. One weak
    model is often wrong; two models of such different kinds rarely make the same error.

    A finding if at least 5 % of the records are suspects, and at least 0.35 x the errors of the better model. On
    classes that are hard but correctly labelled, the models disagree in their errors: that ratio is 0.25 to 0.29 on
    Fashion-MNIST, and 0.4 to 0.6 if a fifth of its labels, or of those of the digits, are wrong. It is only worth a
    look if the classes may overlap: then the models are less confident where they err, and the ROC area of their mean
    confidence as a predictor of correctness is 0.7 or more for two Gaussians, but up to 0.61 with wrong labels; the
    limit is 0.65. Up to `most` records are used. Worth a look if both models predict the labels no better than labels
    in random order. Skipped if neither model learns much, or if a class has fewer than 10 records.
    """
    from sklearn.metrics import roc_auc_score

    rule, train = "suspect labels", found[0]
    picked = _matrix(case, found, most)
    if isinstance(picked, str):
        return Skipped(rule, picked)
    x, y, rows, classes = picked
    if len(classes) < 2 or np.bincount(y).min() < 10 or len(classes) > 200:
        return Skipped(rule, f"{len(classes)} classes; needs 2 to 200 classes with at least 10 records each")
    x = _components(x)
    both = [_out_of_fold(model, x, y) for model in _models()]
    agree = max(float((p.argmax(1) == y).mean()) for p in both)
    chance = float(np.bincount(y).max() / len(y))
    if all(association(y, p) < 3 for p in both):
        text = (f"The labels seem unrelated to the inputs: quick models are right for {100 * agree:.0f} % of them, the "
                f"largest class alone is {100 * chance:.0f} %, and labels in random order fit as well.")  # fmt: skip
        return Finding(rule, False, text, (
            "check that inputs and labels are in the same order: sorting or joining only one of them mixes them up",
            "look at some records: data[0], data[1], ...",
            "ignore this if the task is too hard for a linear classifier and nearest neighbours",
        ), {"accuracy": agree, "largest class": chance})  # fmt: skip
    if agree < chance + 0.2 * (1 - chance):
        return Skipped(rule, f"quick models are right for only {100 * agree:.0f} % of the labels")
    sides = [confident_learning(y, p) for p in both]
    votes = [dict(zip(side.rows.tolist(), side.proposed.tolist(), strict=True)) for side in sides]
    bad = [i for i in votes[0] if votes[1].get(i) == votes[0][i]]
    fraction = len(bad) / len(y)
    sample = "" if len(y) == train.total else f" of {len(y):,} checked"
    if fraction < 0.05 or fraction < 0.35 * (1 - agree):
        return Passed(rule, f"{len(bad)} ({100 * fraction:.1f} %{sample})")
    worst = [{"record": int(rows[i]), "label": int(classes[y[i]]), "looks like": int(classes[votes[0][i]])}
             for i in bad[:50]]  # fmt: skip
    examples = ", ".join(f"{w['record']} ({w['label']}, looks like {w['looks like']})" for w in worst[:5])
    text = f"About {100 * fraction:.0f} % of the training labels look wrong ({len(bad)}{sample}): records {examples}."
    mean = sum(both) / len(both)
    area = float(roc_auc_score(mean.argmax(1) == y, mean.max(1)))
    text += "" if area < 0.65 else " Or the classes overlap: the models are less confident in these cases."
    return Finding(rule, area < 0.65, text, (
        "inspect them: data[record]; then correct them, or drop them: subset(train, ...)",
        "smooth the labels: classify(model, smoothing=0.1)",
        "stop early: best=Best(\"valid/accuracy\"), early_stop(...); SAM also reduces memorisation of wrong labels",
    ), {"share": fraction, "area": area, "records": [w["record"] for w in worst], "labels": [w["label"] for w in worst],
        "looks like": [w["looks like"] for w in worst]})  # fmt: skip


def association(labels, probabilities, *, permutations: int = 200) -> float:
    """Return how far labels 0..C-1 fit out-of-sample probabilities [n, C] better than permuted labels do.

    The statistic is the mean probability of the label. The result is its distance from the mean over random
    permutations of the labels, in their standard deviations.
    """
    rows, rng = np.arange(len(labels)), np.random.default_rng(0)
    permuted = [probabilities[rows, rng.permutation(labels)].mean() for _ in range(permutations)]
    own, spread = probabilities[rows, labels].mean(), np.std(permuted)
    return float((own - np.mean(permuted)) / spread) if spread > 0 else 0.0


def giveaways(case: Case, found: list[Table], *, most: int = 3_000) -> Outcome:
    """Find single features that determine the class.

    A decision tree on one feature, cross-validated, must reach an accuracy of 98 %, and 97 % of the way from the
    frequency of the largest class to 1. The ten features with the highest F statistic are tried.

    Such a feature is usually a leak: an identifier, a field that was written after the label, or the label itself. A
    problem if one feature is right for every record, otherwise worth a look.
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
        # If a feature is constant within a class, rounding makes its F infinite, or huge with either sign.
        strength = np.abs(np.nan_to_num(f_classif(x[:, varied].astype(np.float64), y)[0], posinf=np.inf))
    leaks, chance, best = [], np.bincount(y).max() / len(y), 0.0
    for at in varied[np.argsort(-strength)[:10]]:
        tree = DecisionTreeClassifier(max_leaf_nodes=4 * len(classes), random_state=0)
        right = cross_val_score(tree, x[:, [at]], y, cv=3).mean()
        best = max(best, right)
        if right >= 0.98 and right - chance >= 0.97 * (1 - chance):
            leaks.append((int(at), float(right)))
    if not leaks:
        return Passed(rule, f"the best single feature has an accuracy of {100 * best:.0f} %, "
                      f"the largest class {100 * chance:.0f} %")  # fmt: skip
    features = ", ".join(f"{at} ({100 * right:.1f} %)" for at, right in leaks)
    text = f"Single features predict the class almost alone: {features} of {x.shape[1]} (indices of the flat record)."
    # Well-separated classes come close to this; the label itself, or a code of it, is always right.
    return Finding(rule, max(right for _, right in leaks) > 0.9995, text, (
        "check whether the feature is available, with the same value, before the label is known",
        "if not, drop it: features = np.delete(features, [...], axis=1)",
    ), {"features": [at for at, _ in leaks], "accuracy": [right for _, right in leaks]})  # fmt: skip


def _models():
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    return LogisticRegression(C=1.0, max_iter=100), KNeighborsClassifier(10)


def _components(x, width: int = 40):
    """The first principal components of [n, F], scaled to an overall standard deviation of 1."""
    from sklearn.decomposition import PCA

    width = min(width, *x.shape)
    x = PCA(width, svd_solver="full" if min(x.shape) < 100 else "randomized", random_state=0).fit_transform(x)
    return x / (x.std() + 1e-6)


def _out_of_fold(model, x, y):
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # convergence does not matter for a quick model
        folds = StratifiedKFold(4, shuffle=True, random_state=0)
        return cross_val_predict(model, x, y, cv=folds, method="predict_proba")


def _matrix(case, found, most):
    """(features [n, F] of unit scale, class indices [n], record numbers [n], classes), or the reason to skip."""
    train = found[0]
    labels = labels_of(case, found[:1]).get(train.name)
    names = [name for name in inputs_of(case, train) if train.fields[name].dtype.kind in "fu"]
    if labels is None or not names:
        return "the training records have no labels or no numeric features"
    if train.drawn:
        return "the training source generates its batches"
    keep = np.flatnonzero(labels >= 0)
    keep = np.sort(np.random.default_rng(0).permutation(keep)[:most])
    x = np.concatenate([flat(train.fields[name][keep]) for name in names], 1)
    is_finite = np.isfinite(x).all(1)
    x, keep = x[is_finite], keep[is_finite]
    if len(x) < 20:
        return f"only {len(x)} labelled records; needs at least 20"
    if train.fields[names[0]].ndim > 2:
        x = (x - x.mean()) / (x.std() + 1e-6)
        if x.shape[1] > 4096:
            x = x[:, :: -(-x.shape[1] // 4096)]
    else:
        spread = x.std(0)
        x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    classes, y = np.unique(labels[keep], return_inverse=True)
    return x, y, train.rows[keep], classes
