"""Two-sample tests: whether two samples come from one distribution, for one column and for all columns together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.axes import Array, Float, Num

FEW = 20  # a column with at most this many distinct values is compared by its counts
EXPECTED = 5  # the chi-squared approximation needs this many expected counts (Cochran 1954); rarer values are pooled
FOLDS = 5


class ColumnShift(NamedTuple):
    """The comparison of a column in two samples.

    `statistic` is that of the `test`, "KS" or "chi-squared". `p` is the p-value, NaN if there is nothing to compare,
    and `psi` the population stability index.
    """

    test: str
    statistic: float
    p: float
    psi: float


class ClassifierTest(NamedTuple):
    """The area under the ROC curve of a classifier that separates two samples, its confidence interval and p-value."""

    area: float
    low: float
    high: float
    p: float


class DiscrepancyTest(NamedTuple):
    """The unbiased estimate of the squared maximum mean discrepancy of two samples, and its p-value."""

    squared_mmd: float
    p: float


def psi(reference: Num[Array, " bins"], counts: Num[Array, " bins"]) -> float:
    """Compute the population stability index of two histograms: sum of (p - q) ln(p / q) over the bins.

    It is the symmetric Kullback-Leibler divergence, in nats. Credit scoring calls values below 0.1 small and values
    above 0.25 large (Siddiqi 2006). For two normal distributions of standard deviation s and fine bins it is the
    squared difference of the means over s^2. If a bin is empty on one side, 0.5 is added to every count. Bins that are
    empty on both sides are left out.
    """
    p, q = np.asarray(reference, np.float64), np.asarray(counts, np.float64)
    used = (p > 0) | (q > 0)
    p, q = p[used], q[used]
    if (p == 0).any() or (q == 0).any():
        p, q = p + 0.5, q + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def number_shift(reference: Num[Array, " rows"], values: Num[Array, " others"], *, bins: int = 10) -> ColumnShift:
    """Compare a column of numbers, NaN if missing, in two samples.

    The test is that of Kolmogorov and Smirnov for two samples, in its asymptotic form. It is conservative for ties, so
    that a column of at most 20 distinct values is compared by `category_shift`. If values are missing, their frequency
    is compared by chi-squared; the p-value is then twice the smaller one. The bins of the population stability index
    are the quantiles of the reference, and missing values.
    """
    from scipy.stats import ks_2samp

    x, y = np.asarray(reference, np.float64), np.asarray(values, np.float64)
    missing = [np.isnan(side) for side in (x, y)]
    x, y = (side[~gone] for side, gone in zip((x, y), missing, strict=True))
    if len(np.unique(np.concatenate([x, y]))) <= FEW or not len(x) or not len(y):
        return category_shift(reference, values)
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    histograms = [np.bincount(np.searchsorted(edges, side, side="left"), minlength=bins) for side in (x, y)]
    index = psi(*(np.append(h, gone.sum()) for h, gone in zip(histograms, missing, strict=True)))
    test = ks_2samp(x, y, method="asymp")
    p = float(test.pvalue)
    if any(gone.any() for gone in missing):
        p = min(1.0, 2 * np.nanmin([p, category_shift(*(gone.astype(np.int32) for gone in missing)).p]))
    return ColumnShift("KS", float(test.statistic), p, index)


def category_shift(reference: Num[Array, " rows"], values: Num[Array, " others"]) -> ColumnShift:
    """Compare a column of codes, NaN if missing, in two samples, by Pearson's chi-squared test of homogeneity.

    Missing values are a category. Categories with fewer than 5 expected values on one side are pooled.
    """
    from scipy.stats import chi2_contingency

    sides = [np.asarray(side, np.float64) for side in (reference, values)]
    codes = np.unique(np.concatenate(sides), return_inverse=True)[1]  # NaN is one value
    sides = codes[: len(sides[0])], codes[len(sides[0]) :]
    table = np.stack([np.bincount(side, minlength=codes.max() + 1) for side in sides])
    rare = table.sum(0) * table.sum(1).min() / table.sum() < EXPECTED
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(1)])
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2 or (table.sum(1) == 0).any():
        return ColumnShift("chi-squared", 0.0, np.nan, psi(*table))
    test = chi2_contingency(table, correction=False)
    return ColumnShift("chi-squared", float(test.statistic), float(test.pvalue), psi(*table))


def classifier_test(
    x: Float[np.ndarray, "rows features"], y: Float[np.ndarray, "others features"], *, confidence: float = 0.95,
    seed: int = 0,
) -> ClassifierTest:  # fmt: skip
    """Test whether gradient boosting can separate two samples, by its cross-validated area under the ROC curve.

    The classifier two-sample test of Lopez-Paz & Oquab 2017, with the area instead of the accuracy, which also holds
    for samples of different sizes. The area is the mean over 5 folds. The variances in its interval are those of DeLong
    et al. 1988 in each fold, and the variances for its one-sided p-value those of the rank sum of Mann & Whitney 1947,
    corrected for ties. The classifiers share training rows, and thus the folds are not independent: the variance of the
    mean is 1 + 5/4 times that of independent folds (Nadeau & Bengio 2003, section 5). NaN values are allowed. With
    fewer than 10 rows on one side, all results are NaN.
    """
    from scipy.stats import norm, rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    if min(len(x), len(y)) < 2 * FOLDS:
        return ClassifierTest(np.nan, np.nan, np.nan, np.nan)
    rows, side = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    areas, variances, chances = [], [], []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, side):
        model = HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=seed)
        with threadpool_limits(1, "openmp"):  # on a busy machine, threads that wait for each other take minutes
            scores, of = model.fit(rows[train], side[train]).decision_function(rows[test]), side[test]
        n, m = int((of == 0).sum()), int((of == 1).sum())
        ranks = rankdata(scores)
        below = (ranks[of == 1] - rankdata(scores[of == 1])) / n  # of the other side, for each row
        above = 1 - (ranks[of == 0] - rankdata(scores[of == 0])) / m
        areas.append(below.mean())
        variances.append(below.var(ddof=1) / m + above.var(ddof=1) / n)
        ties = np.unique(scores, return_counts=True)[1].astype(np.float64)
        free = 1 - np.sum(ties**3 - ties) / ((n + m) ** 3 - (n + m))
        chances.append(free * (n + m + 1) / (12 * n * m))
    area, shared = np.mean(areas), 1 + FOLDS / (FOLDS - 1)
    error, chance = (np.sqrt(shared * np.sum(each)) / FOLDS for each in (variances, chances))
    half = norm.ppf((1 + confidence) / 2) * error
    p = float(norm.sf((area - 0.5) / chance)) if chance > 0 else 1.0
    return ClassifierTest(float(area), float(max(0, area - half)), float(min(1, area + half)), p)


def mmd_test(
    x: Float[np.ndarray, "rows features"], y: Float[np.ndarray, "others features"], *, permutations: int = 1000,
    variance: float | None = None, seed: int = 0,
) -> DiscrepancyTest:  # fmt: skip
    """Test the squared maximum mean discrepancy of two samples by random permutations (Gretton et al. 2012).

    The estimate is the unbiased one (eq. 3) with the kernel exp(-|a - b|^2 / (2 v)). The `variance` v is by default the
    median squared distance of the pooled rows. The p-value is (1 + k) / (1 + permutations) if k random assignments of
    the rows to the sides have an estimate at least as large. Time and memory grow with the square of the rows.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    n, m = len(x), len(y)
    distances = euclidean_distances(np.concatenate([x, y]).astype(np.float64), squared=True)
    if variance is None:
        variance = float(np.median(distances[np.triu_indices(n + m, 1)])) or 1.0
    kernel = np.exp(-distances / (2 * variance))
    np.fill_diagonal(kernel, 0)
    # The centre has no effect on the result, and keeps the precision of f32.
    kernel = (kernel - kernel.sum() / ((n + m) * (n + m - 1))).astype(np.float32)
    np.fill_diagonal(kernel, 0)
    sums, total = kernel.sum(1, dtype=np.float64), float(kernel.sum(dtype=np.float64))
    rng, estimates = np.random.default_rng(seed), []
    first = np.repeat(np.float32([1, 0]), [n, m])
    for start in range(0, permutations + 1, 500):
        count = min(500, permutations + 1 - start)
        sides = rng.permuted(np.tile(first, (count, 1)), axis=1)
        if not start:
            sides[0] = first
        within = np.einsum("bi,bi->b", sides @ kernel, sides).astype(np.float64)
        mixed = sides @ sums - within
        others = total - within - 2 * mixed
        estimates.append(within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * mixed / (n * m))
    estimates = np.concatenate(estimates)
    # Rounding must not decide whether a permutation that changes nothing is as large.
    as_large = int((estimates[1:] >= estimates[0] - 1e-6).sum())
    return DiscrepancyTest(float(estimates[0]), (1 + as_large) / (1 + permutations))
