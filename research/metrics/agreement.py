"""Agreement of raters beyond chance. Ratings are [raters, rows] on the host; -1 (or NaN for numbers) is no rating.

For two raters with all ratings, Cohen's kappa is `sklearn.metrics.cohen_kappa_score`.
"""

from __future__ import annotations

import numpy as np

from research.axes import Int, Num
from research.errors import UserError, unknown

LEVELS = ("nominal", "ordinal", "interval", "ratio")


def fleiss_kappa(ratings: Int[np.ndarray, "raters rows"]) -> float:
    """Return Fleiss' kappa (Fleiss 1971): (observed - expected agreement) / (1 - expected agreement).

    1 is full agreement and 0 that of chance. Chance draws from the class frequencies over all raters, thus for two
    raters the value is Scott's pi. NaN if all ratings are one class. Raises UserError for a missing rating (use
    `krippendorff_alpha`), and for fewer than two raters.
    """
    ratings = np.asarray(ratings)
    if len(ratings) < 2 or (ratings < 0).any():
        raise UserError(
            f"fleiss_kappa needs at least two raters who rate every record; there are {len(ratings)}, and "
            f"{int((ratings < 0).sum())} ratings are missing. krippendorff_alpha accepts missing ratings."
        )
    counts = (ratings[..., None] == np.unique(ratings)).sum(0)
    n = len(ratings)
    observed = ((counts**2).sum(-1) - n).mean() / (n * (n - 1))
    expected = ((counts.sum(0) / counts.sum()) ** 2).sum()
    return float((observed - expected) / (1 - expected)) if expected < 1 else float("nan")


def krippendorff_alpha(ratings: Num[np.ndarray, "raters rows"], *, level: str = "nominal") -> float:
    """Return Krippendorff's alpha (2011): 1 - observed / expected disagreement, for any number of ratings per record.

    `level` is how values differ: nominal (0 or 1), ordinal (by the ratings between them), interval (squared difference)
    or ratio (squared relative difference). Negative nominal or ordinal ratings and NaN are missing; a record with fewer
    than two ratings does not count. NaN if all ratings are equal. Raises UserError for an unknown level, and if no
    record has two ratings.
    """
    if level not in LEVELS:
        raise unknown("level of measurement", level, LEVELS)
    ratings = np.asarray(ratings, np.float64)
    missing = np.isnan(ratings) | ((ratings < 0) & (level in ("nominal", "ordinal")))
    values = np.unique(ratings[~missing])
    counts = ((ratings[..., None] == values) & ~missing[..., None]).sum(0)  # [rows, values]
    counts = counts[counts.sum(-1) > 1]
    if not len(counts):
        raise UserError("krippendorff_alpha needs a record with two ratings; no record has them.")
    pairs = counts[:, :, None] * counts[:, None] - counts[:, None] * np.eye(len(values))
    coincidences = (pairs / (counts.sum(-1) - 1)[:, None, None]).sum(0)
    totals = coincidences.sum(0)
    distance = _distance(values, totals, level)
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected) if expected > 0 else float("nan")


def _distance(values, totals, level):
    """Return the squared difference of each pair of values (Krippendorff 2011, section 4)."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "ordinal":
        middle = np.cumsum(totals) - totals / 2
        return (middle[:, None] - middle) ** 2
    difference = values[:, None] - values
    if level == "interval":
        return difference**2
    total = values[:, None] + values
    return (difference / np.where(total == 0, 1, total)) ** 2
