"""Tests for the difference between two models: on the same examples, on different examples, and over seeds.

All differences are new minus base. A test over examples compares two trained networks; another seed would train another
network. A test over seeds compares two recipes on this evaluation set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.axes import Array, Bool, Float, Num
from research.errors import UserError

RESAMPLES, DRAWS = 10_000, 2e7
Scores = Num[Array, "_"] | Bool[Array, "_"] | Sequence[float]
Paired = Num[Array, "rows"] | Bool[Array, "rows"] | Sequence[float]  # of the same examples, in the same order


class Difference(NamedTuple):
    """The difference between two models, with its confidence interval and p-value.

    `value` is new minus base. `low` and `high` are the ends of the confidence interval. `p` is the two-sided p-value
    under the hypothesis of no difference. `test` names the test.
    """

    value: float
    low: float
    high: float
    p: float
    test: str


def mcnemar(base: Paired, new: Paired, *, confidence: float = 0.95) -> Difference:
    """Compute the Difference of two accuracies, from hits (0 or 1) on the same N examples.

    The test is McNemar's exact test (McNemar 1947): each of the n examples that only one model gets right is equally
    likely to be either model's. The interval covers two intervals. That of Bonett and Price 2012 adds one case to each
    kind of disagreement. That of Clopper and Pearson, for the new model's fraction q of these n examples, is mapped to
    (2q - 1) n/N. The interval therefore contains 0 if the p-value is 1 - `confidence` or more. Raises UserError if the
    lengths differ or are 0.
    """
    from scipy.stats import binomtest, norm

    base, new = _same_length(base, new)
    only_new, only_base = int(((new == 1) & (base == 0)).sum()), int(((new == 0) & (base == 1)).sum())
    n, total = only_new + only_base, len(base)
    gained, lost = (only_new + 1) / (total + 2), (only_base + 1) / (total + 2)
    half = norm.ppf((1 + confidence) / 2) * math.sqrt((gained + lost - (gained - lost) ** 2) / (total + 2))
    low, high, p = gained - lost - half, gained - lost + half, 1.0
    if n:
        exact_test = binomtest(only_new, n)
        exact_ends = [(2 * end - 1) * n / total for end in exact_test.proportion_ci(confidence, method="exact")]
        low, high, p = min(low, exact_ends[0]), max(high, exact_ends[1]), float(exact_test.pvalue)
    return Difference((only_new - only_base) / total, max(low, -1.0), min(high, 1.0), p, "McNemar's exact test")


def paired_bootstrap(base: Paired, new: Paired, *, confidence: float = 0.95, seed: int = 0) -> Difference:
    """Compute the Difference of two mean scores on the same examples.

    The test is the bootstrap-t of Efron and Tibshirani 1993 (section 12.5) with equal tails. It draws examples with
    replacement, and divides the deviation of each resample's mean difference by the resample's own standard error.
    Losses are skewed, thus plain percentiles of few examples would be overconfident. With few examples the bootstrap-t
    is overconfident too: 1 false alarm in 6 instead of 1 in 20, at 30 rows of losses. The interval therefore also
    covers that of the paired t-test, and the p-value is the larger of the two.

    There are 10,000 resamples; above 2,000 examples there are fewer, but at least 2,000. The same `seed` yields the
    same numbers. Raises UserError for fewer than two examples, for different lengths, or for a score that is not
    finite.
    """
    from scipy.stats import t

    base, new = _same_length(base, new, min_length=2)
    differences = new - base
    n, value = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(value):  # all differences are equal
        return _without_spread(value, 2.0 ** (1 - n), confidence, "paired bootstrap")
    rng, remaining, ratios = np.random.default_rng(seed), int(min(max(2000, DRAWS / n), RESAMPLES)), []
    while remaining:
        size = min(remaining, max(1, int(1e6 / n)))
        resampled = differences[rng.integers(0, n, (size, n))]
        with np.errstate(divide="ignore", invalid="ignore"):
            # A resample of a single value has no spread; its ratio is infinite.
            ratios.append((resampled.mean(1) - value) / (resampled.std(1, ddof=1) / math.sqrt(n)))
        remaining -= size
    ratios = np.nan_to_num(np.concatenate(ratios), nan=0.0, posinf=1e9, neginf=-1e9)
    low, high = value - error * np.quantile(ratios, [(1 + confidence) / 2, (1 - confidence) / 2])
    above, below = (ratios >= value / error).sum(), (ratios <= value / error).sum()
    p = min(1.0, 2 * (1 + min(above, below)) / (1 + len(ratios)))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    p = max(p, float(2 * t.sf(abs(value) / error, n - 1)))
    return Difference(value, min(float(low), value - half), max(float(high), value + half), p, "paired bootstrap")


def welch(base: Scores, new: Scores, *, confidence: float = 0.95) -> Difference:
    """Compute the Difference of two mean scores on different examples, by Welch's t-test.

    For hits (0 or 1), the interval and the p-value are computed after adding one hit and one miss to each side (Agresti
    & Caffo 2000). Otherwise 100 of 100 against 95 of 100 would seem certain. Raises UserError for fewer than two
    examples.
    """
    base, new = _scores(base, min_length=2), _scores(new, min_length=2)
    value = float(new.mean() - base.mean())
    if set(np.unique(base)) | set(np.unique(new)) <= {0.0, 1.0}:
        base, new = np.append(base, (0, 1)), np.append(new, (0, 1))
    return _welch(base, new, confidence, "Welch's t-test, unpaired")._replace(value=value)


def over_seeds(base: Scores, new: Scores, *, confidence: float = 0.95) -> Difference:
    """Compute the Difference of a metric's means over seeds, one value per seed, by Welch's t-test.

    Equal seeds on both sides are not pairs: two recipes that draw different numbers from a seed have nothing in common.
    A single seed on one side is assumed to have the variance of the other side (Student's t-test). Raises UserError for
    a single seed on both sides.
    """
    base, new = _scores(base), _scores(new)
    if len(base) + len(new) < 3:
        raise UserError("one seed on each side cannot estimate a variance; expected two or more for a recipe.")
    return _welch(base, new, confidence, f"Welch's t-test over {len(base)} and {len(new)} seeds")


def holm(ps: Float[Array, " tests"] | Sequence[float]) -> Float[np.ndarray, " tests"]:
    """Correct p-values for multiple tests (Holm 1979): the chance of any false alarm stays below the level.

    A NaN counts as not tested, and stays NaN.
    """
    ps = np.asarray(ps, np.float64)
    tested = np.flatnonzero(~np.isnan(ps))
    order = tested[np.argsort(ps[tested], kind="stable")]
    corrected = np.full(len(ps), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(ps[order] * np.arange(len(order), 0, -1)))
    return corrected


def _welch(base: Float[np.ndarray, " _"], new: Float[np.ndarray, " _"], confidence: float, test: str) -> Difference:
    from scipy.stats import t

    value = float(new.mean() - base.mean())
    variances = [x.var(ddof=1) if len(x) > 1 else None for x in (base, new)]
    variances = [next(s for s in variances if s is not None) if s is None else s for s in variances]
    parts = [s / len(x) for s, x in zip(variances, (base, new), strict=True)]
    error = math.sqrt(sum(parts))
    if error <= 1e-12 * max(abs(base).max(), abs(new).max()):  # all seeds agree
        same = math.isclose(base.mean(), new.mean(), rel_tol=1e-9)
        p_permutation = 1.0 if same else min(1.0, 2 / math.comb(len(base) + len(new), len(base)))
        return _without_spread(0.0 if same else value, p_permutation, confidence, test)
    freedoms = [(part, len(x) - 1) for part, x in zip(parts, (base, new), strict=True) if len(x) > 1]
    degrees = freedoms[0][1] if len(freedoms) == 1 else error**4 / sum(part**2 / n for part, n in freedoms)
    half = float(t.ppf((1 + confidence) / 2, degrees)) * error
    return Difference(value, value - half, value + half, float(2 * t.sf(abs(value) / error, degrees)), test)


def _without_spread(value: float, chance: float, confidence: float, test: str) -> Difference:
    """Return the Difference of scores that are constant on each side (or pairs with constant differences).

    `chance` is the probability of such scores if sides were assigned at random: an exact permutation test. If it is
    above 1 - `confidence`, the interval is infinite.
    """
    significant = not value or chance <= 1 - confidence
    low, high = (value, value) if significant else (-math.inf, math.inf)
    return Difference(value, low, high, 1.0 if not value else chance, test)


def _same_length(
    base: Scores, new: Scores, min_length: int = 1
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    base, new = _scores(base, min_length), _scores(new, min_length)
    if len(base) != len(new):
        raise UserError(f"{len(base)} and {len(new)} examples do not pair; expected scores of the same examples.")
    return base, new


def _scores(values: Scores, min_length: int = 1) -> Float[np.ndarray, " rows"]:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < min_length or not np.isfinite(values).all():
        shape = f"{list(values.shape)} with {int((~np.isfinite(values)).sum())} not finite"
        raise UserError(f"scores of shape {shape}; expected at least {min_length} finite numbers, [N].")
    return values
