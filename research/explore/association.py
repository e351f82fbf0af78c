"""Association of two columns: Pearson, Spearman, Cramér's V of two categories, the correlation ratio.

All are computed from the rows in which both columns are known, as in pandas. A column that is constant there has no
association: NaN. Codes of categories are numbers from 0; NaN is a missing value.
"""

from __future__ import annotations

import numpy as np

from research.axes import Float


def pearson(x: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "features features"]:
    """Return Pearson's correlation of every two columns."""
    known = np.isfinite(x)
    with np.errstate(all="ignore"):  # a constant column, and values near the largest number
        middle = np.where(known, x, 0).sum(0) / np.maximum(known.sum(0), 1)
        centred = np.where(known, x - middle, 0)
        scale = np.sqrt((centred**2).mean(0))
        z = centred / np.where(scale > 0, scale, 1)
        weight = known.astype(np.float64)
        count, first, second = weight.T @ weight, z.T @ weight, (z**2).T @ weight
        covariance = z.T @ z - first * first.T / count
        variance = second - first**2 / count  # of a column in the rows that the other one has
        variance = np.where(variance > 1e-12 * np.maximum(second, 1e-300), variance, np.nan)
        return np.clip(covariance / np.sqrt(variance * variance.T), -1, 1)


def spearman(x: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "features features"]:
    """Return Spearman's correlation of every two columns: Pearson's correlation of their ranks."""
    from scipy.stats import rankdata

    known = np.isfinite(x)
    if known.all():
        return pearson(rankdata(x, axis=0))
    result = np.full((x.shape[1],) * 2, np.nan)
    for i in range(x.shape[1]):
        for j in range(i + 1):  # ranks are among the rows of the pair
            both = known[:, i] & known[:, j]
            if both.any():
                result[i, j] = result[j, i] = pearson(rankdata(x[both][:, [i, j]], axis=0))[0, 1]
    return result


def cramers_v(a: Float[np.ndarray, " rows"], b: Float[np.ndarray, " rows"]) -> float:
    """Return Cramér's V of two columns of codes (Cramér 1946): 0 for independence, 1 if one determines the other.

    It is not corrected for bias: with many categories and few rows, V of independent columns is above 0.
    """
    from scipy.stats.contingency import association

    both = np.isfinite(a) & np.isfinite(b)
    _, a = np.unique(a[both], return_inverse=True)
    _, b = np.unique(b[both], return_inverse=True)
    if not len(a) or a.max() == 0 or b.max() == 0:
        return float("nan")
    counts = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    return float(association(counts.reshape(a.max() + 1, -1), method="cramer"))


def correlation_ratio(codes: Float[np.ndarray, " rows"], x: Float[np.ndarray, " rows"]) -> float:
    """Return eta: the root of the fraction of the variance of `x` that lies between the categories (Fisher 1925)."""
    both = np.isfinite(codes) & np.isfinite(x)
    _, codes = np.unique(codes[both], return_inverse=True)
    x = x[both] - x[both].mean() if both.any() else x[both]
    with np.errstate(all="ignore"):
        total = (x**2).sum()
        if not len(x) or codes.max() == 0 or not 0 < total < np.inf:
            return float("nan")
        counts, sums = np.bincount(codes), np.bincount(codes, x)
        return float(min(1, np.sqrt((sums**2 / counts).sum() / total)))
