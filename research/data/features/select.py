"""Selection of columns by their use in the training rows. Steps act on numbers and 0/1 columns; categories stay.

`count` is the number of columns to keep. The scores are those of scikit-learn; of equal scores, the later column wins.
"""

import numpy as np

from research.data.steps import Feature, Fitted, applied, chosen, labels, matrix, step
from research.errors import UserError

KINDS = ("number", "flag")


@step
def drop(frame, columns) -> Fitted:
    """Leave out columns at this step, such as an intermediate result."""
    return _keep(frame, [n for n in frame.features if n not in chosen(frame, columns, (*KINDS, "category", "date"))])


@step
def variance(frame, above: float = 0.0) -> Fitted:
    """Keep columns whose variance is more than `above`: by default, all that are not constant (VarianceThreshold)."""
    names = chosen(frame, None, KINDS)
    spread = [np.nanvar(frame.columns[name]) if above else np.ptp(_known(frame.columns[name])) for name in names]
    return _scored(frame, names, np.array(spread) > above)


@step
def pearson(frame, count: int) -> Fitted:
    """Keep the columns with the largest absolute correlation with the target, or with one of its classes."""
    from sklearn.feature_selection import r_regression

    names, x, y = _data(frame, "select.pearson()")
    sides = [y] if frame.classes is None else [y == c for c in np.unique(y)]
    scores = np.max([np.abs(np.nan_to_num(r_regression(x, side.astype(np.float64)))) for side in sides], 0)
    return _best(frame, names, scores, count)


@step
def chi2(frame, count: int) -> Fitted:
    """Keep the columns with the largest chi-squared statistic with the classes; they must not be negative."""
    from sklearn.feature_selection import chi2

    names, x, y = _data(frame, "select.chi2()", classes=True)
    if (x < 0).any():
        raise UserError(
            "select.chi2() needs counts or 0/1 columns; there are negative numbers. Scale: scale.min_max()."
        )
    return _best(frame, names, np.nan_to_num(chi2(x, y)[0]), count)


@step
def mutual_information(frame, count: int, *, seed: int = 0) -> Fitted:
    """Keep the columns with the largest mutual information with the target (Kraskov et al. 2004; Ross 2014)."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    names, x, y = _data(frame, "select.mutual_information()")
    score = mutual_info_regression if frame.classes is None else mutual_info_classif
    return _best(frame, names, score(x, y, random_state=seed), count)


@step
def lasso(frame, strength: float) -> Fitted:
    """Keep the columns with a weight in a linear model with an L1 penalty. Scale the columns before.

    `strength` is alpha of Lasso for a number, and 1 / (C rows) of LogisticRegression for classes.
    """
    from sklearn.linear_model import Lasso, LogisticRegression

    names, x, y = _data(frame, "select.lasso()")
    if frame.classes is None:
        model = Lasso(alpha=strength)
    else:
        model = LogisticRegression(
            C=1 / (strength * len(x)), l1_ratio=1.0, solver="saga", max_iter=5000, random_state=0
        )
    return _scored(frame, names, _weights(model.fit(x, y)) > 1e-5)


@step
def ridge(frame, count: int, *, strength: float = 1.0) -> Fitted:
    """Keep the columns with the largest weights in a linear model with an L2 penalty. Scale the columns before."""
    from sklearn.linear_model import Ridge, RidgeClassifier

    names, x, y = _data(frame, "select.ridge()")
    model = (Ridge if frame.classes is None else RidgeClassifier)(alpha=strength)
    return _best(frame, names, _weights(model.fit(x, y)), count)


@step
def trees(frame, count: int, *, seed: int = 0) -> Fitted:
    """Keep the columns that reduce impurity most in a random forest (Breiman 2001)."""
    names, x, y = _data(frame, "select.trees()")
    return _best(frame, names, _forest(frame, seed).fit(x, y).feature_importances_, count)


@step
def permutation(frame, count: int, *, seed: int = 0, repeats: int = 5) -> Fitted:
    """Keep the columns whose permutation lowers the score of a random forest most, on a quarter of the training rows
    that the forest has not seen.
    """
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import train_test_split

    names, x, y = _data(frame, "select.permutation()")
    fitted, held, of_fitted, of_held = train_test_split(x, y, test_size=0.25, random_state=seed)
    forest = _forest(frame, seed).fit(fitted, of_fitted)
    found = permutation_importance(forest, held, of_held, n_repeats=repeats, random_state=seed)
    return _best(frame, names, found.importances_mean, count)


@step
def recursive(frame, count: int, *, strength: float = 1.0) -> Fitted:
    """Remove the column with the smallest weight in a ridge model, one by one (RFE; Guyon et al. 2002)."""
    from sklearn.feature_selection import RFE
    from sklearn.linear_model import Ridge, RidgeClassifier

    names, x, y = _data(frame, "select.recursive()")
    _check(count, names)
    model = (Ridge if frame.classes is None else RidgeClassifier)(alpha=strength)
    return _scored(frame, names, RFE(model, n_features_to_select=count).fit(x, y).support_)


@applied
def kept(columns, arrays, *, names):
    """Return the columns `names`."""
    return {name: values for name, values in columns.items() if name in names or name.startswith("\0")}


def _data(frame, what, *, classes: bool = False):
    names, y = chosen(frame, None, KINDS), labels(frame, what=what)
    if classes and frame.classes is None:
        raise UserError(f"{what} needs a target that is a category.")
    return names, matrix(frame, names, what=what), y


def _forest(frame, seed):
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    return (RandomForestRegressor if frame.classes is None else RandomForestClassifier)(100, random_state=seed)


def _weights(model):
    return np.abs(np.atleast_2d(model.coef_)).max(0)


def _known(values):
    return values[~np.isnan(values)] if not np.isnan(values).all() else np.zeros(1)


def _check(count, names):
    if not 0 < count <= len(names):
        raise UserError(f"count={count}; expected 1 to {len(names)}, the number of columns of numbers at this step.")


def _best(frame, names, scores, count):
    _check(count, names)
    chosen_rows = np.argsort(np.nan_to_num(scores, nan=-np.inf), kind="stable")[-count:]
    return _scored(frame, names, np.isin(np.arange(len(names)), chosen_rows))


def _scored(frame, names, mask):
    if len(names) and not np.any(mask):
        raise UserError("the selection keeps no column; lower its threshold.")
    left = {name for name, keep in zip(names, mask, strict=True) if not keep}
    return _keep(frame, [name for name in frame.features if name not in left])


def _keep(frame, names):
    features: dict[str, Feature] = {name: frame.features[name] for name in names}
    return Fitted(kept, {"names": names}, {}, features=features)
