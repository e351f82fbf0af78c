"""Multiple imputation: one result from several completed data sets, with a variance that counts the missing values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.axes import Float
from research.errors import UserError, check_range


class Pooled(NamedTuple):
    """A pooled estimate; each field has the shape of one estimate.

    variance: total variance of the estimate
    missing: share of the variance that comes from the missing values, 0 to 1
    degrees: degrees of freedom of Student's t
    low, high: ends of the confidence interval
    """

    estimate: Float[np.ndarray, "*entry"]
    variance: Float[np.ndarray, "*entry"]
    missing: Float[np.ndarray, "*entry"]
    degrees: Float[np.ndarray, "*entry"]
    low: Float[np.ndarray, "*entry"]
    high: Float[np.ndarray, "*entry"]


def pooled(
    estimates: Float[np.ndarray, " samples *entry"],
    variances: Float[np.ndarray, " samples *entry"],
    *,
    complete: float = np.inf,
    level: float = 0.95,
) -> Pooled:
    """Pool estimates [draws, ...] and their variances by Rubin's rules (Rubin 1987, equations 3.1.2 to 3.1.8).

    The variance is the mean of `variances`, plus 1 + 1 / draws times the variance between the estimates. `complete` are
    the degrees of freedom that the analysis would have without missing values (Barnard & Rubin 1999); infinite for a
    large sample. Limit: equal estimates have the mean variance and the degrees of freedom of complete data.
    Raises UserError with fewer than two estimates, for other shapes, and for a variance that is not above 0.
    """
    check_range("pooled", level=(level, 0, 1))
    estimates, variances = np.asarray(estimates, np.float64), np.asarray(variances, np.float64)
    if estimates.shape != variances.shape or not estimates.ndim or len(estimates) < 2:
        raise UserError(
            f"estimates {list(estimates.shape)} and variances {list(variances.shape)}; expected [draws, ...] of both, "
            "with at least 2 draws."
        )
    if not (variances > 0).all():
        raise UserError(f"a variance is {variances[~(variances > 0)][0]}; expected numbers above 0.")
    from scipy import stats

    draws, estimate, within = len(estimates), estimates.mean(0), variances.mean(0)
    between = (1 + 1 / draws) * estimates.var(0, ddof=1)
    variance = within + between
    missing = between / variance
    with np.errstate(divide="ignore"):
        degrees = (draws - 1) / missing**2
        if np.isfinite(complete):
            observed = (complete + 1) / (complete + 3) * complete * (1 - missing)
            degrees = 1 / (1 / degrees + 1 / observed)
    half = stats.t.ppf((1 + level) / 2, degrees) * np.sqrt(variance)
    return Pooled(estimate, variance, missing, degrees, estimate - half, estimate + half)
