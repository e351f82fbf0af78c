"""Compare the distributions of the parts of a split, column by column, and all columns together."""

import numpy as np

from research.data.readers import cells
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.diagnose.parts import Part, Parts, matrices, row_limit, sampled
from research.errors import format_names
from research.metrics.difference import holm
from research.metrics.two_sample import category_shift, classifier_test, mmd_test, number_shift

LEVEL = 0.001  # of each check: a doctor with many checks must rarely be wrong
SMALL, LARGE = 0.02, 0.25  # population stability indices: below the first, a shift is significant but not notable
APART = 0.55  # the area under the ROC curve of a classifier that separates the parts notably
ROWS, PAIRWISE = 20_000, 500  # the most rows of a part, and in the discrepancy of all pairs

RANDOM = "split at random by class: stratified(labels, (0.8, None), seed=0)"


def distributions(parts: Parts, *, level=LEVEL, without=(), group=(), seed=0) -> Outcome:
    """Compare every column of each part with the training part.

    Numbers and dates by the test of Kolmogorov and Smirnov, categories and missing values by chi-squared; the p-values
    of all columns and parts are corrected by Holm's method. A column is named if its p-value is below `level` and its
    population stability index at least 0.02. With groups, one row per group is compared, because the rows of a group
    are not independent.
    """
    rule, names = "distributions", parts.names("number", "integer", "category", "date", without=without)
    if not names:
        return Skipped(rule, "the records have no columns of numbers or categories")
    train, *others = _drawn(parts, row_limit(ROWS, len(names)), group, seed)
    compared = [
        (name, part.name, (category_shift if parts.schema[name].kind == "category" else number_shift)(
            train.coded[name], part.coded[name]))
        for part in others for name in names if name in part.coded
    ]  # fmt: skip
    ps = holm([shift.p for _, _, shift in compared])
    shifted = [(*one, p) for one, p in zip(compared, ps, strict=True) if p < level and one[2].psi >= SMALL]
    if not shifted:
        smallest = np.nanmin([1.0, *ps])
        return Passed(rule, f"{len(names)} columns of {format_names([part.name for part in others])} are distributed "
                      f"as in {train.name} (smallest p-value {smallest:.2g}, Holm)")  # fmt: skip
    shifted.sort(key=lambda one: -one[2].psi)
    texts = [
        f"{name} of {part} ({shift.test} {shift.statistic:.3g}, PSI {shift.psi:.2g}, p {p:.1g})"
        for name, part, shift, p in shifted
    ]
    size = "large" if shifted[0][2].psi >= LARGE else "small or moderate"
    text = f"{len(shifted)} of {len(compared)} columns are not distributed as in {train.name}; the largest shift is "
    return Finding(rule, False, f"{text}{size}: {format_names(texts, 5)}.", (
        RANDOM,
        "if the parts differ on purpose, in time or place: report the result as one under shift",
        "drop a column whose meaning changed, or make it relative: a difference, a ratio, a rank",
    ), {"columns": [one[0] for one in shifted], "parts": [one[1] for one in shifted],
        "psi": [one[2].psi for one in shifted], "p": [float(one[3]) for one in shifted]})  # fmt: skip


def joint_distribution(parts: Parts, *, level=LEVEL, without=(), group=(), seed=0) -> Outcome:
    """Compare all columns of each part with the training part at once.

    A classifier is trained to separate them, and the maximum mean discrepancy is tested by permutations of up to 500
    rows of each (`research.metrics.two_sample`). P-values are corrected by Holm's method. The classifier counts if its
    area under the ROC curve is also at least 0.55.
    """
    rule = "joint distribution"
    names = parts.names("number", "integer", "category", "date", "text", without=(*without, parts.target))
    if not names and not parts.train.arrays:
        return Skipped(rule, "the records have no columns that can be compared")
    drawn = _drawn(parts, row_limit(ROWS // 2, len(names)), group, seed)
    few = [sampled(part, PAIRWISE, seed=seed) for part in drawn]
    if min(part.size for part in few) < 10:
        return Skipped(rule, "a part has fewer than 10 rows")
    by_tree = [_tree_matrix(part, x, names) for part, x in zip(drawn, matrices(parts, drawn, names=names), strict=True)]
    by_kernel = matrices(parts, few, names=names)
    separated = [classifier_test(by_tree[0], x, confidence=1 - level, seed=seed) for x in by_tree[1:]]
    permutations = int(min(20_000, 4 * len(parts.others) / level))
    distant = [mmd_test(by_kernel[0], x, permutations=permutations, seed=seed) for x in by_kernel[1:]]
    ps = holm([test.p for test in [*separated, *distant]])
    measured, differing, evidence = [], [], {}
    for part, one, other, p, q in zip(parts.others, separated, distant, ps, ps[len(separated) :], strict=False):
        measured.append(f"{part.name}: classifier AUC {one.area:.3f} ({one.low:.3f} to {one.high:.3f}, p {p:.1g}), "
                        f"MMD^2 {other.squared_mmd:.2g} (p {q:.1g})")  # fmt: skip
        evidence[part.name] = [one.area, other.squared_mmd]
        if p < level and one.area >= APART or q < level:
            differing.append(measured[-1])
    if not differing:
        return Passed(rule, "; ".join(measured))
    return Finding(rule, False, f"All columns together are not distributed as in {parts.train.name}: "
                   f"{'; '.join(differing)}.", (
        RANDOM,
        "look for a column that knows the part: an index, a file name, a date, another unit",
        "if the parts differ on purpose, in time or place: report the result as one under shift",
    ), evidence)  # fmt: skip


def _drawn(parts, most, group, seed) -> list[Part]:
    made = []
    for part in parts.all:
        keys = _keys(part, group) if group else None
        made.append(sampled(part, most, seed=seed, group=keys))
    return made


def _keys(part, names) -> np.ndarray:
    """Return the groups of the rows, numbered."""
    values = [np.unique(cells.strings(part.columns[name]).astype(str), return_inverse=True)[1] for name in names]
    return np.unique(np.stack(values, 1), axis=0, return_inverse=True)[1].reshape(-1)


def _tree_matrix(part, matrix, names) -> np.ndarray:
    """Return the columns as numbers, which are enough for trees, and the rest of the matrix for texts and arrays."""
    own = [part.coded[name][:, None] for name in names if name in part.coded]
    rest = [matrix] if part.arrays or len(own) < len(names) else []
    return np.concatenate([*own, *rest], 1).astype(np.float64)
