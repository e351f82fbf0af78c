"""Whether two models differ: tests on the same examples, on different ones, and over seeds.

All give new minus base. A test over examples speaks of these two networks (another seed gives another network), a test
over seeds of the two recipes on this evaluation set.
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
    """`value` is new minus base, `low` to `high` its confidence interval, `p` the two-sided p-value against no
    difference, `test` the name of the test, in words.
    """

    value: float
    low: float
    high: float
    p: float
    test: str


def mcnemar(base: Paired, new: Paired, *, confidence: float = 0.95) -> Difference:
    """The Difference of two shares of hits (0 or 1) on the same N examples.

    The exact test of McNemar 1947: of the n examples that one model alone has right, each is as likely to be either's.
    The interval is that of Bonett and Price 2012 (a case added to either kind of disagreement), widened if the test
    does not reject: to n / N times the interval of Clopper and Pearson for one model's share of these n. Thus it holds
    0 if the p-value is 1 - `confidence` or more. Raises UserError if the lengths differ or are 0.
    """
    from scipy.stats import binomtest, norm

    base, new = _same_length(base, new)
    only_new, only_base = int(((new == 1) & (base == 0)).sum()), int(((new == 0) & (base == 1)).sum())
    n, total = only_new + only_base, len(base)
    gained, lost = (only_new + 1) / (total + 2), (only_base + 1) / (total + 2)
    half = norm.ppf((1 + confidence) / 2) * math.sqrt((gained + lost - (gained - lost) ** 2) / (total + 2))
    low, high, p = gained - lost - half, gained - lost + half, 1.0
    if n:
        found = binomtest(only_new, n)
        exact = [(2 * end - 1) * n / total for end in found.proportion_ci(confidence, method="exact")]
        low, high, p = min(low, exact[0]), max(high, exact[1]), float(found.pvalue)
    return Difference((only_new - only_base) / total, max(low, -1.0), min(high, 1.0), p, "McNemar's exact test")


def paired_bootstrap(base: Paired, new: Paired, *, confidence: float = 0.95, seed: int = 0) -> Difference:
    """The Difference of two means of scores on the same examples.

    The bootstrap-t of Efron and Tibshirani 1993 (section 12.5) with equal tails: examples are drawn with replacement,
    and the mean difference of each draw is measured in its own standard errors; losses are skewed, and with few
    examples plain percentiles would be too sure. With few examples it is too sure itself (1 false alarm in 6 at 30 rows
    of losses, for 1 in 20): the interval holds that of the paired t-test too, and the p-value is the larger one. 10,000
    draws, fewer (but 2,000) above 2,000 examples; the same `seed` gives the same numbers. Raises UserError for fewer
    than two examples, lengths that differ, or a score that is not finite.
    """
    from scipy.stats import t

    base, new = _same_length(base, new, least=2)
    away = new - base
    n, value = len(away), float(away.mean())
    error = float(away.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(value):  # the same for all examples
        return _without_spread(value, 2.0 ** (1 - n), confidence, "paired bootstrap")
    rng, left, ratios = np.random.default_rng(seed), int(min(max(2000, DRAWS / n), RESAMPLES)), []
    while left:
        size = min(left, max(1, int(1e6 / n)))
        drawn = away[rng.integers(0, n, (size, n))]
        with np.errstate(divide="ignore", invalid="ignore"):
            # A draw of one value only has no spread: it is as extreme as can be.
            ratios.append((drawn.mean(1) - value) / (drawn.std(1, ddof=1) / math.sqrt(n)))
        left -= size
    ratios = np.nan_to_num(np.concatenate(ratios), nan=0.0, posinf=1e9, neginf=-1e9)
    low, high = value - error * np.quantile(ratios, [(1 + confidence) / 2, (1 - confidence) / 2])
    above, below = (ratios >= value / error).sum(), (ratios <= value / error).sum()
    p = min(1.0, 2 * (1 + min(above, below)) / (1 + len(ratios)))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    p = max(p, float(2 * t.sf(abs(value) / error, n - 1)))
    return Difference(value, min(float(low), value - half), max(float(high), value + half), p, "paired bootstrap")


def unpaired(base: Scores, new: Scores, *, confidence: float = 0.95) -> Difference:
    """The Difference of two means of scores on different examples, by Welch's t-test.

    Hits (0 or 1) have a hit and a miss added to either side for the interval and the p-value (Agresti & Caffo 2000);
    without, 100 of 100 against 95 of 100 would seem sure. Raises UserError for fewer than two examples.
    """
    base, new = _scores(base, least=2), _scores(new, least=2)
    value = float(new.mean() - base.mean())
    if set(np.unique(base)) | set(np.unique(new)) <= {0.0, 1.0}:
        base, new = np.append(base, (0, 1)), np.append(new, (0, 1))
    return _welch(base, new, confidence, "Welch's t-test, unpaired")._replace(value=value)


def over_seeds(base: Scores, new: Scores, *, confidence: float = 0.95) -> Difference:
    """The Difference of the means of a metric over seeds, with one value for each seed, by Welch's t-test.

    The same seed in both is no pair: two recipes that draw other numbers from it have nothing in common. With a single
    seed on one side its spread is taken to be the other's (Student's t-test). Raises UserError for a single seed on
    both sides.
    """
    base, new = _scores(base), _scores(new)
    if len(base) + len(new) < 3:
        raise UserError("one seed on each side has no spread; give two seeds or more of at least one recipe.")
    return _welch(base, new, confidence, f"Welch's t-test over {len(base)} and {len(new)} seeds")


def holm(ps: Float[Array, " tests"] | Sequence[float]) -> Float[np.ndarray, " tests"]:
    """p-values corrected for their number (Holm 1979): the chance of any false alarm stays below the level.

    A NaN was not tested: it stays NaN and does not count.
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
    spread = [x.var(ddof=1) if len(x) > 1 else None for x in (base, new)]
    spread = [next(s for s in spread if s is not None) if s is None else s for s in spread]
    parts = [s / len(x) for s, x in zip(spread, (base, new), strict=True)]
    error = math.sqrt(sum(parts))
    if error <= 1e-12 * max(abs(base).max(), abs(new).max()):  # all seeds agree
        same = math.isclose(base.mean(), new.mean(), rel_tol=1e-9)
        chance = 1.0 if same else min(1.0, 2 / math.comb(len(base) + len(new), len(base)))
        return _without_spread(0.0 if same else value, chance, confidence, test)
    freedoms = [(part, len(x) - 1) for part, x in zip(parts, (base, new), strict=True) if len(x) > 1]
    degrees = freedoms[0][1] if len(freedoms) == 1 else error**4 / sum(part**2 / n for part, n in freedoms)
    half = float(t.ppf((1 + confidence) / 2, degrees)) * error
    return Difference(value, value - half, value + half, float(2 * t.sf(abs(value) / error, degrees)), test)


def _without_spread(value: float, chance: float, confidence: float, test: str) -> Difference:
    """The Difference of scores that are alike on each side: by the `chance` of that, were the sides drawn by lot (an
    exact permutation test). No interval can be given if that is no less than the level.
    """
    sure = not value or chance <= 1 - confidence
    low, high = (value, value) if sure else (-math.inf, math.inf)
    return Difference(value, low, high, 1.0 if not value else chance, test)


def _same_length(
    base: Scores, new: Scores, least: int = 1
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    base, new = _scores(base, least), _scores(new, least)
    if len(base) != len(new):
        raise UserError(f"{len(base)} and {len(new)} examples do not pair; expected scores of the same examples.")
    return base, new


def _scores(values: Scores, least: int = 1) -> Float[np.ndarray, " rows"]:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < least or not np.isfinite(values).all():
        given = f"{list(values.shape)}, {int((~np.isfinite(values)).sum())} of them not finite"
        raise UserError(f"scores of shape {given}; expected at least {least} finite numbers, [N].")
    return values
