"""Missing values from the nearest training rows (Troyanskaya et al. 2001, "Missing value estimation methods for DNA
microarrays"). Equals scikit-learn's KNNImputer with uniform weights.
"""

import numpy as np

from research.data.clean.missing import NUMBERS, flagged, known_values, with_flags
from research.data.steps import Fitted, applied, chosen, namespace, step

CHUNK = 256  # rows whose distances to all training rows are in memory at once


@step
def neighbours(frame, k: int = 5, *, columns=None, flag: bool = False) -> Fitted:
    """Fill numbers with the mean of the `k` nearest training rows that have them.

    The distance is Euclidean over the columns that both rows have, scaled up to all columns; scale the columns before.
    The training rows are part of the fitted numbers. A row without any known value gets the means of the columns.
    """
    names = chosen(frame, columns, NUMBERS)
    for name in names:
        known_values(frame, name)
    rows = np.stack([frame.columns[name] for name in names], 1) if names else np.empty((0, 0))
    return flagged(frame, names, flag, Fitted(fill_nearest, {"names": names, "k": k}, {"rows": rows}))


@applied
def fill_nearest(columns, arrays, *, names, k, flags=()):
    """Fill each missing value with the mean of the `k` nearest rows of `rows` [m, names] that have the column."""
    xp, columns = namespace(columns), with_flags(columns, flags)
    if not names:
        return columns
    x = xp.stack([columns[name] for name in names], 1)
    parts = [_filled(xp, x[at : at + CHUNK], arrays["rows"], k) for at in range(0, len(x), CHUNK)]
    return {**columns, **dict(zip(names, xp.concatenate(parts).T, strict=True))}


def _filled(xp, x, rows, k):
    missing, other = xp.isnan(x), np.isnan(rows)
    a, b = xp.where(missing, 0.0, x), np.where(other, 0.0, rows)
    common = (~missing).astype(a.dtype) @ (~other).T.astype(np.float64)
    squares = a**2 @ (~other).T.astype(np.float64) - 2 * a @ b.T + (~missing).astype(a.dtype) @ (b**2).T
    distance = xp.where(common > 0, xp.maximum(squares, 0.0) * x.shape[1] / xp.maximum(common, 1), xp.inf)
    filled = []
    for j in range(x.shape[1]):
        donors = np.flatnonzero(~other[:, j])
        near = xp.argsort(distance[:, donors], axis=1)[:, : min(k, len(donors))]
        usable = xp.isfinite(xp.take_along_axis(distance[:, donors], near, 1))
        values = xp.asarray(rows[donors, j])[near]
        mean = xp.sum(xp.where(usable, values, 0.0), 1) / xp.maximum(usable.sum(1), 1)
        mean = xp.where(usable.any(1), mean, rows[donors, j].mean())
        filled.append(xp.where(missing[:, j], mean, x[:, j]))
    return xp.stack(filled, 1)
