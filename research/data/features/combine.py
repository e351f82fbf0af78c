"""Features of several columns, and bins of one."""

import itertools
import warnings

import numpy as np

from research.data.steps import Feature, Fitted, applied, chosen, namespace, step, take
from research.errors import UserError


@step
def crosses(frame, first: str, second: str) -> Fitted:
    """Add the category `FIRST x SECOND`: the pairs of the training rows. A missing part makes the pair missing."""
    names = chosen(frame, (first, second), ("category",))
    a, b = (frame.columns[name] for name in names)
    sizes = [len(frame.features[name].categories) + 1 for name in names]
    known = ~np.isnan(a) & ~np.isnan(b) & (a < sizes[0] - 1) & (b < sizes[1] - 1)
    pairs = np.unique((a * sizes[1] + b)[known]).astype(int)
    table = np.full(sizes[0] * sizes[1], float(len(pairs)))
    table[pairs] = np.arange(len(pairs))
    left, right = (frame.features[name].categories for name in names)
    made = tuple(f"{left[pair // sizes[1]]} x {right[pair % sizes[1]]}" for pair in pairs)
    features = {**frame.features, f"{first} x {second}": Feature("category", made)}
    return Fitted(crossed, {"names": names, "size": sizes[1]}, {"table": table}, features=features)


@applied
def crossed(columns, arrays, *, names, size):
    """Look up the code of a pair of codes."""
    xp = namespace(columns)
    first, second = names
    return {**columns, f"{first} x {second}": take(xp, arrays["table"], columns[first] * size + columns[second])}


@step
def polynomials(frame, degree: int = 2, *, columns=None, interactions_only: bool = False) -> Fitted:
    """Add all products of numbers up to `degree`, such as `a^2` and `a b` (scikit-learn's PolynomialFeatures)."""
    names = chosen(frame, columns, ("number",))
    powers = []
    for count in range(2, degree + 1):
        pick = itertools.combinations if interactions_only else itertools.combinations_with_replacement
        powers += [np.bincount(term, minlength=len(names)) for term in pick(range(len(names)), count)]
    made = [" ".join(f"{n}^{p}" if p > 1 else n for n, p in zip(names, row, strict=True) if p) for row in powers]
    features = {**frame.features, **{name: Feature("number") for name in made}}
    arrays = {"powers": np.array(powers, np.int32).reshape(len(made), len(names))}
    return Fitted(products, {"names": names, "made": made}, arrays, features=features)


@applied
def products(columns, arrays, *, names, made):
    """Add the product of the columns to the powers [made, names], for each of `made`."""
    columns = dict(columns)
    for name, powers in zip(made, arrays["powers"], strict=True):
        product = 1.0
        for one, power in zip(names, powers, strict=True):
            product = product * columns[one] ** int(power) if power else product
        columns[name] = product
    return columns


@step
def group_statistics(frame, group: str, *, columns=None, statistics=("mean", "std")) -> Fitted:
    """Add statistics of numbers over the training rows of the same category: `NAME mean by GROUP`.

    `statistics` are among mean, std, min, max, median and count. Any other or a missing category gives those of all
    rows.
    """
    chosen(frame, group, ("category",))
    names = chosen(frame, columns, ("number",))
    codes, size = frame.columns[group], len(frame.features[group].categories) + 1
    made, tables = [], []
    for name, statistic in itertools.product(names, statistics):
        if statistic not in STATISTICS:
            raise UserError(f"the statistic {statistic!r} is none of {', '.join(STATISTICS)}.")
        known = ~np.isnan(frame.columns[name])
        if not known.any():
            raise UserError(f"the column {name!r} has no value in the training rows; name the others: columns=(...).")
        table = np.full(size + 1, STATISTICS[statistic](frame.columns[name][known]), np.float64)
        for code in np.unique(codes[known & (codes < size - 1)]):
            table[int(code)] = STATISTICS[statistic](frame.columns[name][known & (codes == code)])
        made.append(f"{name} {statistic} by {group}")
        tables.append(table)
    features = {**frame.features, **{name: Feature("number") for name in made}}
    arrays = {"tables": np.array(tables).reshape(len(made), size + 1)}
    return Fitted(of_group, {"group": group, "made": made}, arrays, features=features)


STATISTICS = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max, "median": np.median, "count": len}


@applied
def of_group(columns, arrays, *, group, made):
    """Add columns from `tables` [made, codes + 1], whose last entry is for a missing group."""
    xp = namespace(columns)
    codes = xp.where(xp.isnan(columns[group]), arrays["tables"].shape[1] - 1, columns[group])
    return {**columns, **{n: take(xp, table, codes) for n, table in zip(made, arrays["tables"], strict=True)}}


@step
def bins(frame, count: int = 5, *, columns=None, strategy: str = "quantile") -> Fitted:
    """Replace numbers by categories: `count` intervals with as many training rows ("quantile") or as wide ("uniform").

    KBinsDiscretizer of scikit-learn. Numbers beyond the outer edges belong to the outer intervals.
    """
    names = chosen(frame, columns, ("number",))
    features, arrays = dict(frame.features), {}
    for i, name in enumerate(names):
        values = frame.columns[name][~np.isnan(frame.columns[name])]
        edges = _edges(values, count, strategy)
        arrays[str(i)] = edges[1:-1]
        features[name] = Feature("category", tuple(f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)))
    return Fitted(binned, {"names": names}, arrays, features=features)


def _edges(values, count, strategy):

    from sklearn.preprocessing import KBinsDiscretizer

    scaler = KBinsDiscretizer(count, encode="ordinal", strategy=strategy, quantile_method="linear", subsample=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of intervals without width, which are joined
        return scaler.fit(values[:, None]).bin_edges_[0]


@applied
def binned(columns, arrays, *, names):
    """Replace numbers by the number of inner edges up to them."""
    xp, columns = namespace(columns), dict(columns)
    for i, name in enumerate(names):
        x = columns[name]
        codes = xp.searchsorted(xp.asarray(arrays[str(i)]), x, side="right")
        columns[name] = xp.where(xp.isnan(x), xp.nan, codes)
    return columns
