"""Missing values by regression of each column on all others, in rounds (van Buuren & Groothuis-Oudshoorn 2011, "mice:
Multivariate Imputation by Chained Equations in R"). Equals scikit-learn's IterativeImputer with Bayesian ridge
regression. One round is regression imputation.
"""

import warnings

import numpy as np

from research.data.clean.missing import NUMBERS, flagged, known_values, with_flags
from research.data.steps import Fitted, applied, chosen, namespace, step
from research.errors import UserError


@step
def chained(frame, rounds: int = 10, *, columns=None, flag: bool = False) -> Fitted:
    """Fill numbers by chained equations: start with the means, then predict each column from the others, in rounds.

    Raises UserError with fewer than two columns of numbers.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    names = chosen(frame, columns, NUMBERS)
    if len(names) < 2:
        raise UserError(f"chained() needs at least 2 columns of numbers; there are {len(names)}. Use missing.mean().")
    for name in names:
        known_values(frame, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the rounds are the argument
        fitted = IterativeImputer(max_iter=rounds, random_state=0).fit(
            np.stack([frame.columns[name] for name in names], 1)
        )
    sequence = fitted.imputation_sequence_
    weights, offsets = np.zeros((len(sequence), len(names))), np.zeros(len(sequence))
    for i, one in enumerate(sequence):
        weights[i, one.neighbor_feat_idx], offsets[i] = one.estimator.coef_, one.estimator.intercept_
    arrays = {
        "start": fitted.initial_imputer_.statistics_,
        "order": np.array([one.feat_idx for one in sequence]),
        "weights": weights,
        "offsets": offsets,
    }
    return flagged(frame, names, flag, Fitted(predict_missing, {"names": names}, arrays))


@applied
def predict_missing(columns, arrays, *, names, flags=()):
    """Fill with `start` [names]; then, for each of `order` [m], with `weights` [m, names] @ row + `offsets` [m]."""
    xp, columns = namespace(columns), with_flags(columns, flags)
    x = xp.stack([columns[name] for name in names], 0)
    missing = xp.isnan(x)
    x = list(xp.where(missing, arrays["start"][:, None], x))
    for column, weights, offset in zip(arrays["order"], arrays["weights"], arrays["offsets"], strict=True):
        predicted = sum(w * x[i] for i, w in enumerate(weights) if w) + offset
        x[int(column)] = xp.where(missing[int(column)], predicted, x[int(column)])
    return {**columns, **dict(zip(names, x, strict=True))}
