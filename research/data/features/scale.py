"""Scaling of numbers. Missing values stay missing. Each equals the scaler of scikit-learn that it names.

All have an inverse, so that they also scale a target: `fit(train, ..., target=scale.standard())`.
"""

import warnings

import numpy as np

from research.data.steps import Fitted, applied, chosen, namespace, step
from research.errors import UserError

EDGE = 1e-7  # quantiles below it, or above 1 - EDGE, have the same normal quantile, as in scikit-learn


@step
def standard(frame, *, columns=None) -> Fitted:
    """Scale to mean 0 and standard deviation 1 (StandardScaler). A constant column is only centred."""
    return _standard(frame, columns)


@step
def center(frame, *, columns=None) -> Fitted:
    """Subtract the mean (StandardScaler without scaling)."""
    from sklearn.preprocessing import StandardScaler

    return _affine(frame, columns, StandardScaler(with_std=False), lambda s: (s.mean_, np.ones_like(s.mean_)))


@step
def min_max(frame, low: float = 0.0, high: float = 1.0, *, columns=None) -> Fitted:
    """Scale the range of the training rows to `low` to `high` (MinMaxScaler); new rows may be outside."""
    from sklearn.preprocessing import MinMaxScaler

    return _affine(frame, columns, MinMaxScaler((low, high)), lambda s: (-s.min_ / s.scale_, 1 / s.scale_))


@step
def max_abs(frame, *, columns=None) -> Fitted:
    """Divide by the largest absolute value of the training rows (MaxAbsScaler)."""
    from sklearn.preprocessing import MaxAbsScaler

    return _affine(frame, columns, MaxAbsScaler(), lambda s: (np.zeros_like(s.scale_), s.scale_))


@step
def robust(frame, low: float = 25.0, high: float = 75.0, *, columns=None) -> Fitted:
    """Subtract the median and divide by the range between two percentiles (RobustScaler)."""
    from sklearn.preprocessing import RobustScaler

    return _affine(frame, columns, RobustScaler(quantile_range=(low, high)), lambda s: (s.center_, s.scale_))


@step
def quantile(frame, *, columns=None, normal: bool = False, quantiles: int = 1000) -> Fitted:
    """Map to the quantiles of the training rows, 0 to 1, or of the normal distribution (QuantileTransformer)."""
    from sklearn.preprocessing import QuantileTransformer

    names = chosen(frame, columns, ("number",))
    rows = len(next(iter(frame.columns.values())))
    scaler = QuantileTransformer(n_quantiles=min(quantiles, rows), subsample=None)
    fitted = _fit(scaler, frame, names)
    arrays = {"quantiles": fitted.quantiles_.T, "places": fitted.references_} if names else {}
    return Fitted(ranked, {"names": names, "normal": normal}, arrays, inverse=unranked)


@applied
def ranked(columns, arrays, *, names, normal):
    """Interpolate between `quantiles` [names, q] at `places` [q]. For repeated quantiles, take the middle place."""
    xp, columns = namespace(columns), dict(columns)
    for name, quantiles in zip(names, arrays.get("quantiles", ()), strict=True):
        x, places = columns[name], arrays["places"]
        up = xp.interp(x, quantiles, places)
        down = -xp.interp(-x, -quantiles[::-1], -places[::-1])
        y = xp.where(x <= quantiles[0], 0.0, xp.where(x >= quantiles[-1], 1.0, (up + down) / 2))
        # Trap: scikit-learn has 1 for a value that equals the first quantile and the last, of a constant column.
        y = xp.where(xp.isnan(x), xp.nan, y)
        columns[name] = _normal_quantile(xp, y) if normal else y
    return columns


@applied
def unranked(columns, arrays, *, names, normal):
    """Undo `ranked`."""
    xp, columns = namespace(columns), dict(columns)
    for name, quantiles in zip(names, arrays.get("quantiles", ()), strict=True):
        y = _normal_share(xp, columns[name]) if normal else columns[name]
        columns[name] = xp.interp(y, arrays["places"], quantiles)
    return columns


@step
def power(frame, *, columns=None, box_cox: bool = False) -> Fitted:
    """Make the distribution normal by a power, then scale as `standard` does (PowerTransformer; Yeo & Johnson 2000).

    `box_cox` uses the transform of Box & Cox (1964), which needs positive numbers.
    """
    from sklearn.preprocessing import PowerTransformer

    names = chosen(frame, columns, ("number",))
    fitted = _fit(PowerTransformer("box-cox" if box_cox else "yeo-johnson", standardize=False), frame, names)
    arrays = {"powers": fitted.lambdas_ if names else np.zeros(0), "shift": np.zeros(len(names)),
              "scale": np.ones(len(names))}  # fmt: skip
    settings = {"names": names, "box_cox": box_cox}
    raised = _standard(frame._replace(columns=powered(frame.columns, arrays, **settings)), names)
    return Fitted(powered, settings, {**arrays, **raised.arrays}, inverse=unpowered)


@applied
def powered(columns, arrays, *, names, box_cox):
    """Apply the powers [names], then subtract `shift` and divide by `scale`."""
    xp, columns = namespace(columns), dict(columns)
    for i, name in enumerate(names):
        x, p = columns[name], float(arrays["powers"][i])
        if box_cox:
            y = xp.log(x) if p == 0 else (x**p - 1) / p
        else:
            # Each branch gets valid numbers only, so that no gradient or warning comes from the other one.
            plus, minus = xp.maximum(x, 0.0), xp.minimum(x, 0.0)
            high = xp.log1p(plus) if p == 0 else ((plus + 1) ** p - 1) / p
            low = -xp.log1p(-minus) if p == 2 else -((1 - minus) ** (2 - p) - 1) / (2 - p)
            y = xp.where(x >= 0, high, low)
        columns[name] = (xp.where(xp.isnan(x), xp.nan, y) - arrays["shift"][i]) / arrays["scale"][i]
    return columns


@applied
def unpowered(columns, arrays, *, names, box_cox):
    """Undo `powered`. A number that no input gives becomes the end of the range."""
    xp, columns = namespace(columns), dict(columns)
    for i, name in enumerate(names):
        y, p = columns[name] * arrays["scale"][i] + arrays["shift"][i], float(arrays["powers"][i])
        if box_cox:
            columns[name] = xp.exp(y) if p == 0 else xp.maximum(y * p + 1, 0.0) ** (1 / p)
        else:
            plus, minus = xp.maximum(y, 0.0), xp.minimum(y, 0.0)
            high = xp.expm1(plus) if p == 0 else xp.maximum(plus * p + 1, 0.0) ** (1 / p) - 1
            low = -xp.expm1(-minus) if p == 2 else 1 - xp.maximum(1 - (2 - p) * minus, 0.0) ** (1 / (2 - p))
            columns[name] = xp.where(y >= 0, high, low)
    return columns


@applied
def affine(columns, arrays, *, names):
    """Subtract `shift` [names] and divide by `scale` [names]."""
    columns = dict(columns)
    for name, shift, scale in zip(names, arrays["shift"], arrays["scale"], strict=True):
        columns[name] = (columns[name] - shift) / scale
    return columns


@applied
def unaffine(columns, arrays, *, names):
    """Undo `affine`."""
    columns = dict(columns)
    for name, shift, scale in zip(names, arrays["shift"], arrays["scale"], strict=True):
        columns[name] = columns[name] * scale + shift
    return columns


def _standard(frame, columns):
    from sklearn.preprocessing import StandardScaler

    return _affine(frame, columns, StandardScaler(), lambda s: (s.mean_, s.scale_))


def _affine(frame, columns, scaler, numbers):
    names = chosen(frame, columns, ("number",))
    shift, scale = numbers(_fit(scaler, frame, names)) if names else (np.zeros(0), np.ones(0))
    arrays = {"shift": np.asarray(shift, np.float64), "scale": np.asarray(scale, np.float64)}
    return Fitted(affine, {"names": names}, arrays, inverse=unaffine)


def _fit(scaler, frame, names):
    if not names:
        return scaler
    if empty := [name for name in names if np.isnan(frame.columns[name]).all()]:
        raise UserError(
            f"the column {empty[0]!r} has no value in the training rows. Leave it out: without=({empty[0]!r},)."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return scaler.fit(np.stack([frame.columns[name] for name in names], 1))


def _normal_quantile(xp, y):
    import scipy.special

    # Trap: in f32, 1 - EDGE is another number; the limits are therefore computed in f64.
    low, high = (float(scipy.special.ndtri(p)) for p in (EDGE - np.spacing(1), 1 - (EDGE - np.spacing(1))))
    return xp.clip(_special(xp).ndtri(xp.clip(y, 0.0, 1.0)), low, high)


def _normal_share(xp, y):
    return _special(xp).ndtr(y)


def _special(xp):
    if xp is np:
        import scipy.special as special
    else:
        import jax.scipy.special as special
    return special
