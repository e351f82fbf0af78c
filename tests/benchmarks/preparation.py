"""Ten fitted steps of a table, ours and the scikit-learn Pipeline of the same steps: to fit them, and to apply them.

The columns are 70 % numbers and 30 % categories, with 5 % missing values. Both get the columns in memory and return one
matrix of features. scikit-learn gets its best form: one ColumnTransformer, whose branches touch only their columns.
"""

import numpy as np

from tests.benchmarks import works
from tests.benchmarks.turns import Gate, serve, turns


def columns(s) -> dict[str, np.ndarray]:
    """Random columns: `n0`, ... of f64, NaN if missing, and `c0`, ... of strings, None if missing."""
    rng, categories = np.random.default_rng(0), max(1, 3 * s.columns // 10)
    made = {}
    for i in range(s.columns - categories):
        made[f"n{i}"] = rng.gamma(1 + i, size=s.rows)
    for i in range(categories):
        made[f"c{i}"] = np.array([f"kind {k}" for k in range(8)], object)[rng.integers(0, 8, s.rows)]
    for name, values in made.items():
        values[rng.random(s.rows) < 0.05] = np.nan if name[0] == "n" else None
    return made


def frame(columns):
    """The columns as a table of pandas; texts stay objects, so that None is the missing value."""
    import pandas

    return pandas.DataFrame({name: pandas.Series(values, dtype=values.dtype) for name, values in columns.items()})


def groups(names) -> dict[str, list[str]]:
    """The columns that a step of some columns acts on."""
    numbers, categories = ([name for name in names if name[0] == kind] for kind in "nc")
    return {
        "products": numbers[:3], "quantile": numbers[3:6], "bins": numbers[-2:], "plain": numbers[6:-2],
        "ordinal": categories[-2:], "one_hot": categories[:-2],
    }  # fmt: skip


def ours_fitted(data):
    """The fitted preparation of a table."""
    from research.data import fit
    from research.data.clean import missing
    from research.data.features import combine, encode, scale, select

    of = groups(data.columns)
    steps = (
        missing.median(), missing.most_frequent(), scale.robust(), scale.quantile(columns=of["quantile"]),
        combine.bins(5, columns=of["bins"]), encode.ordinal(columns=of["ordinal"]),
        combine.polynomials(2, columns=of["products"]), scale.standard(), encode.one_hot(), select.variance(),
    )  # fmt: skip
    return fit(data, *steps)


def theirs():
    """The Pipeline of scikit-learn for the same steps, not fitted."""
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        KBinsDiscretizer,
        OneHotEncoder,
        OrdinalEncoder,
        PolynomialFeatures,
        QuantileTransformer,
        RobustScaler,
        StandardScaler,
    )

    median = lambda: SimpleImputer(strategy="median")
    frequent = lambda: SimpleImputer(strategy="most_frequent", missing_values=None)
    quantile = QuantileTransformer(n_quantiles=1000, subsample=None)
    bins = KBinsDiscretizer(5, encode="onehot-dense", quantile_method="linear", subsample=None)
    products = PolynomialFeatures(2, include_bias=False)
    branches = {
        "products": make_pipeline(median(), RobustScaler(), products, StandardScaler()),
        "quantile": make_pipeline(median(), RobustScaler(), quantile, StandardScaler()),
        "bins": make_pipeline(median(), RobustScaler(), bins),
        "plain": make_pipeline(median(), RobustScaler(), StandardScaler()),
        "ordinal": make_pipeline(frequent(), OrdinalEncoder(), StandardScaler()),
        "one_hot": make_pipeline(frequent(), OneHotEncoder(sparse_output=False, handle_unknown="ignore")),
    }
    chosen = lambda name: lambda frame: groups(frame.columns)[name]
    branch = ColumnTransformer([(name, made, chosen(name)) for name, made in branches.items()])
    return make_pipeline(branch, VarianceThreshold())


def ours(work: works.Work, gate: Gate):
    """`fit`, or the call of a Preparation."""
    from research.data import table

    data = table(columns(work.sizes))
    if work.kind == "prepare-fit":
        turns(gate, lambda: ours_fitted(data), wait=lambda fitted: fitted)
        return
    prepare = ours_fitted(data)
    turns(gate, lambda: prepare(data), wait=lambda features: features)


def scikit_learn(work: works.Work, gate: Gate):
    """`fit` of a new Pipeline, or `transform`."""
    data = frame(columns(work.sizes))
    if work.kind == "prepare-fit":
        turns(gate, lambda: theirs().fit(data), wait=lambda fitted: fitted)
        return
    pipeline = theirs().fit(data)
    turns(gate, lambda: pipeline.transform(data), wait=lambda features: features)


if __name__ == "__main__":
    serve({"ours": ours, "scikit-learn": scikit_learn})
