"""Missing values by regression of each column on all others, in rounds (van Buuren & Groothuis-Oudshoorn 2011, "mice:
Multivariate Imputation by Chained Equations in R"). Equals scikit-learn's IterativeImputer with Bayesian ridge
regression. One round is regression imputation.

Multiple imputation: fit one preparation for each of several draws, compute the result of interest and its variance
with each, and combine them by `pooled` (`research.data.clean.pooling`).

    prepared = [fit(train, chained.chained(draw=seed)) for seed in range(5)]
"""

import warnings

import numpy as np

from research.data.clean.missing import NUMBERS, flagged, known_values, with_flags
from research.data.steps import Fitted, applied, chosen, namespace, step
from research.errors import UserError


@step
def chained(frame, rounds: int = 10, *, columns=None, flag: bool = False, draw: int | None = None) -> Fitted:
    """Fill numbers by chained equations: start with the means, then predict each column from the others, in rounds.

    With `draw`, a seed, the values of the training rows are random draws from the predicted distributions instead of
    their means (`sample_posterior=True` of IterativeImputer); they stay with the fitted numbers. New rows get means.
    Raises UserError with fewer than two columns of numbers, and in training for rows with other missing values.
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
        fitted = IterativeImputer(max_iter=rounds, random_state=draw or 0, sample_posterior=draw is not None)
        x = np.stack([frame.columns[name] for name in names], 1)
        completed = fitted.fit_transform(x)
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
    if draw is not None:
        arrays["drawn"] = completed[np.isnan(x)]
    training = None if draw is None else fill_drawn
    return flagged(frame, names, flag, Fitted(predict_missing, {"names": names}, arrays, training=training))


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


@applied
def fill_drawn(columns, arrays, *, names, flags=()):
    """Fill the training rows with `drawn` [missing values], row by row."""
    columns = with_flags(columns, flags)
    x = np.stack([columns[name] for name in names], 1)
    missing = np.isnan(x)
    if missing.sum() != len(arrays["drawn"]):
        raise UserError(
            f"{missing.sum()} values are missing; expected the {len(arrays['drawn'])} of the rows that chained() was "
            "fitted on. Pass those rows, or training=False."
        )
    x[missing] = arrays["drawn"]
    return {**columns, **dict(zip(names, x.T, strict=True))}
