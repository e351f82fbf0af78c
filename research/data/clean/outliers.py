"""Outliers: values beyond limits that a rule derives from the training rows. A step clips, flags or drops them.

outliers.clip(outliers.iqr())   outliers.flag(outliers.sigma(3), columns=("income",))   outliers.winsorise()
"""

import numpy as np

from research.data.steps import Feature, Fitted, applied, chosen, namespace, step
from research.errors import UserError


def sigma(deviations: float = 3.0) -> tuple:
    """Limits of mean -+ `deviations` standard deviations."""
    return ("sigma", deviations)


def robust(deviations: float = 3.5) -> tuple:
    """Limits of median -+ `deviations` x 1.4826 x the median absolute deviation (Iglewicz & Hoaglin 1993)."""
    return ("robust", deviations)


def iqr(ranges: float = 1.5) -> tuple:
    """Limits of `ranges` interquartile ranges beyond the quartiles (Tukey 1977)."""
    return ("iqr", ranges)


def quantiles(low: float = 0.01, high: float = 0.99) -> tuple:
    """Limits at two quantiles."""
    return ("quantiles", low, high)


def _limits(rule, x):
    if not (isinstance(rule, list | tuple) and rule and rule[0] in RULES):
        raise UserError(f"the rule {rule!r} is none of outliers.sigma(), robust(), iqr() and quantiles().")
    return RULES[rule[0]](x[~np.isnan(x)], *rule[1:])


def _robust(x, deviations):
    middle = np.median(x)
    width = deviations * 1.4826 * np.median(np.abs(x - middle))
    return middle - width, middle + width


def _iqr(x, ranges):
    low, high = np.quantile(x, (0.25, 0.75))
    return low - ranges * (high - low), high + ranges * (high - low)


RULES = {
    "sigma": lambda x, deviations: (x.mean() - deviations * x.std(), x.mean() + deviations * x.std()),
    "robust": _robust,
    "iqr": _iqr,
    "quantiles": lambda x, low, high: tuple(np.quantile(x, (low, high))),
}


@step
def clip(frame, rule=("iqr", 1.5), *, columns=None) -> Fitted:
    """Replace numbers beyond the limits by the limit."""
    return Fitted(clipped, *_fitted(frame, rule, columns))


@step
def winsorise(frame, low: float = 0.01, high: float = 0.99, *, columns=None) -> Fitted:
    """Replace numbers beyond two quantiles of the training rows by the quantile: `clip(quantiles(low, high))`."""
    return Fitted(clipped, *_fitted(frame, quantiles(low, high), columns))


@applied
def clipped(columns, arrays, *, names):
    """Clip each column to its limits [names, 2]."""
    xp, columns = namespace(columns), dict(columns)
    for name, (low, high) in zip(names, arrays["limits"], strict=True):
        columns[name] = xp.clip(columns[name], low, high)
    return columns


@step
def flag(frame, rule=("iqr", 1.5), *, columns=None) -> Fitted:
    """Add a 0/1 column `NAME outlier` for each column: whether the number is beyond the limits."""
    settings, arrays = _fitted(frame, rule, columns)
    features = {**frame.features, **{f"{name} outlier": Feature("flag") for name in settings["names"]}}
    return Fitted(flagged, settings, arrays, features=features)


@applied
def flagged(columns, arrays, *, names):
    """Add a column of 0 and 1 for each of `names`."""
    xp, columns = namespace(columns), dict(columns)
    for name, (low, high) in zip(names, arrays["limits"], strict=True):
        x = columns[name]
        columns[f"{name} outlier"] = xp.where((x < low) | (x > high), 1.0, 0.0)
    return columns


@step
def drop(frame, rule=("iqr", 1.5), *, columns=None) -> Fitted:
    """Drop training rows with a number beyond its limits. New rows are never dropped, and stay as they are."""
    return Fitted(None, *_fitted(frame, rule, columns), training=inside)


@applied
def inside(columns, arrays, *, names):
    """Return the rows whose numbers are within the limits, or missing."""
    limits = zip(names, arrays["limits"], strict=True)
    keep = ~np.any([(columns[name] < low) | (columns[name] > high) for name, (low, high) in limits], axis=0)
    return {name: values[keep] for name, values in columns.items()}


def _fitted(frame, rule, columns):
    names = chosen(frame, columns, ("number",))
    limits = [_limits(rule, frame.columns[name]) for name in names if not np.isnan(frame.columns[name]).all()]
    if len(limits) < len(names):
        raise UserError("a column has no value in the training rows; name the others: columns=(...).")
    return {"names": names}, {"limits": np.array(limits, np.float64).reshape(len(names), 2)}
