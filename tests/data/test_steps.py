"""Every step equals scikit-learn's transform, on the host and jitted, on rows that it was not fitted on."""

import datetime
import warnings

import jax
import numpy as np
import pytest
from sklearn import decomposition, ensemble, feature_selection, impute, linear_model, model_selection, preprocessing
from sklearn.datasets import load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction import FeatureHasher

from research.data import Column, fit, subset, table
from research.data.clean import chained, isolation, missing, neighbours, outliers
from research.data.features import combine, dates, encode, project, scale, select
from research.errors import UserError

WINE, KIND = load_wine(return_X_y=True)
NAMES = [f"x{i}" for i in range(6)]
RNG = np.random.default_rng(0)
X = WINE[:, :6] * [1, 1, 1, 1, 0.01, 1]
HOLES = np.where(RNG.random(X.shape) < 0.15, np.nan, X)
HOLES[0] = np.nan  # a row without any value
TRAIN, TEST = np.arange(178) % 3 > 0, np.arange(178) % 3 == 0
CITY = np.array(["Rome", "Oslo", "Ulm", "Bern", "Kyiv"], object)[RNG.choice(5, 178, p=[0.4, 0.3, 0.2, 0.07, 0.03])]
SIZE = np.array(["big", "small"], object)[RNG.integers(0, 2, 178)]
AMOUNT = X[:, 0] * 2 + (CITY == "Rome") + RNG.normal(size=178) / 10


def made(*steps, data=X, target=None, training=False, **options):
    """Return the features of the test rows (or training rows) and their names, after checking the jitted function."""
    columns = {**dict(zip(NAMES, data.T, strict=False))} if isinstance(data, np.ndarray) else dict(data)
    if target is not None:
        columns["y"] = target
    whole = table(columns, target=None if target is None else "y")
    train, test = (subset(whole, np.flatnonzero(rows)) for rows in (TRAIN, TEST))
    prepare = fit(train, *steps, **options)
    found = prepare(train, training=True) if training else prepare(test)
    if not training:
        raw = {name: values[TEST] for name, values in whole.columns.items()}
        coded = {name: values.astype(np.float32) for name, values in prepare.coded(raw).items()}
        # In f32, numbers that differ in f64 may tie, and a tie of quantiles is half a place.
        np.testing.assert_allclose(jax.jit(prepare.apply)(coded)["features"], found.columns["features"], 2e-3, 5e-3)
    return found.columns["features"], prepare.names


def quiet(scaler, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scaler.fit(*args)


NUMBERS = {
    "standard": (scale.standard(), preprocessing.StandardScaler()),
    "center": (scale.center(), preprocessing.StandardScaler(with_std=False)),
    "min_max": (scale.min_max(-1, 2), preprocessing.MinMaxScaler((-1, 2))),
    "max_abs": (scale.max_abs(), preprocessing.MaxAbsScaler()),
    "robust": (scale.robust(10, 90), preprocessing.RobustScaler(quantile_range=(10, 90))),
    "quantile": (scale.quantile(), preprocessing.QuantileTransformer(n_quantiles=118)),
    "normal quantile": (
        scale.quantile(normal=True, quantiles=50),
        preprocessing.QuantileTransformer(n_quantiles=50, output_distribution="normal"),
    ),
    "yeo-johnson": (scale.power(), preprocessing.PowerTransformer()),
    "box-cox": (scale.power(box_cox=True), preprocessing.PowerTransformer("box-cox")),
    "polynomials": (combine.polynomials(3), preprocessing.PolynomialFeatures(3, include_bias=False)),
    "interactions": (
        combine.polynomials(2, interactions_only=True),
        preprocessing.PolynomialFeatures(2, interaction_only=True, include_bias=False),
    ),
    "pca": (project.pca(3), decomposition.PCA(3)),
    "whitened": (project.pca(0.99, whiten=True), decomposition.PCA(0.99, whiten=True, svd_solver="full")),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    step, theirs = NUMBERS[name]
    found, _ = made(step)
    np.testing.assert_allclose(found, quiet(theirs, X[TRAIN]).transform(X[TEST]), 1e-4, 1e-4)


@pytest.mark.parametrize("name", [n for n in NUMBERS if n not in ("polynomials", "interactions", "pca", "whitened")])
def test_targets_have_an_inverse(name):
    values = X[:, 1]
    prepare = fit(table({"x": X[:, 0], "y": values}, target="y"), target=NUMBERS[name][0])
    scaled = prepare(table({"x": X[:, 0], "y": values}, target="y")).columns["target"]
    np.testing.assert_allclose(prepare.inverse(scaled.astype(np.float64))[:, 0], values, 1e-3)
    theirs = quiet(NUMBERS[name][1], values[:, None])
    if "quantile" not in name:  # theirs has as many quantiles as the other test has rows
        np.testing.assert_allclose(scaled, theirs.transform(values[:, None]), 1e-4, 1e-4)


FILLS = {
    "mean": (missing.mean(), impute.SimpleImputer()),
    "median": (missing.median(), impute.SimpleImputer(strategy="median")),
    "constant": (missing.constant(-1), impute.SimpleImputer(strategy="constant", fill_value=-1)),
    "most_frequent": (missing.most_frequent(columns=NAMES), impute.SimpleImputer(strategy="most_frequent")),
    "flag": (missing.median(flag=True), impute.SimpleImputer(strategy="median", add_indicator=True)),
    "neighbours": (neighbours.neighbours(4), impute.KNNImputer(n_neighbors=4)),
    "regression": (chained.chained(1), impute.IterativeImputer(max_iter=1, random_state=0)),
    "chained": (chained.chained(6), impute.IterativeImputer(max_iter=6, random_state=0)),
}


@pytest.mark.parametrize("name", FILLS)
def test_missing_values(name):
    step, theirs = FILLS[name]
    found, _ = made(step, data=HOLES)
    np.testing.assert_allclose(found, quiet(theirs, HOLES[TRAIN]).transform(HOLES[TEST]), 1e-4, 1e-4)


def test_scaling_ignores_missing_values():
    found, _ = made(scale.standard(), missing.constant(7), data=HOLES)
    theirs = np.nan_to_num(preprocessing.StandardScaler().fit(HOLES[TRAIN]).transform(HOLES[TEST]), nan=7)
    np.testing.assert_allclose(found, theirs, 1e-4, 1e-4)


def series(step, **columns):
    whole = table(columns)
    return fit(whole, step)(whole).columns["features"]


def test_series():
    gaps = np.array([np.nan, 2, np.nan, np.nan, 8, 9, np.nan])
    known = ~np.isnan(gaps)
    line = np.interp(np.arange(7), np.flatnonzero(known), gaps[known])
    np.testing.assert_allclose(series(missing.interpolate(), x=gaps)[:, 0], line, 1e-6)
    assert series(missing.forward(), x=gaps)[:, 0].tolist() == [8, 2, 2, 2, 8, 9, 9]
    prepare = fit(table({"x": gaps}), missing.interpolate())
    assert prepare(table({"x": [None]}, schema={"x": "number"})).columns["features"].tolist() == [[8]]
    for step in (missing.interpolate(), missing.forward()):
        made(step, data=HOLES)


def test_by_group():
    data = table({"x": [1.0, 3, None, 10, None, 5.5, None], "g": ["a", "a", "a", "b", "c", None, None]})
    prepare = fit(data, missing.by_group("g"), missing.as_category())
    # The median of a is 2; c has no value, and neither has a missing group, so both get the median of all.
    assert prepare(data).columns["features"][:, 0].tolist() == [1, 3, 2, 10, 4.25, 5.5, 4.25]
    assert prepare.codes == {"g": 5}


RULES = {
    "sigma": (outliers.sigma(2), lambda x: (x.mean() - 2 * x.std(), x.mean() + 2 * x.std())),
    "robust": (
        outliers.robust(3),
        lambda x: np.median(x) + np.array([-1, 1]) * 3 * 1.4826 * np.median(np.abs(x - np.median(x))),
    ),
    "iqr": (
        outliers.iqr(1),
        lambda x: np.quantile(x, (0.25, 0.75)) + np.array([-1, 1]) * np.subtract(*np.quantile(x, (0.75, 0.25))),
    ),
    "quantiles": (outliers.quantiles(0.1, 0.8), lambda x: np.quantile(x, (0.1, 0.8))),
}


@pytest.mark.parametrize("name", RULES)
def test_outliers(name):
    rule, limits = RULES[name]
    x = X[:, 1:2]
    low, high = limits(x[TRAIN])
    assert 0 < np.sum((x[TEST] < low) | (x[TEST] > high)) < 40
    np.testing.assert_allclose(made(outliers.clip(rule), data=x)[0], np.clip(x[TEST], low, high), 1e-6)
    flags = made(outliers.flag(rule), data=x)[0][:, 1:]
    np.testing.assert_array_equal(flags, (x[TEST] < low) | (x[TEST] > high))
    inside = x[TRAIN & (x >= low).all(1) & (x <= high).all(1)]
    np.testing.assert_allclose(made(outliers.drop(rule), data=x, training=True)[0], inside, 1e-6)
    assert len(made(outliers.drop(rule), data=x)[0]) == TEST.sum(), "new rows are never dropped"


@pytest.mark.parametrize("share", [None, 0.2])
def test_isolation_forest(share):
    theirs = ensemble.IsolationForest(n_estimators=30, contamination=share or "auto", random_state=0).fit(X[TRAIN])
    flags = made(isolation.flag(share, trees=30))[0][:, -1]
    np.testing.assert_array_equal(flags, theirs.predict(X[TEST]) < 0)
    assert 0 < flags.sum() < 30
    kept = made(isolation.drop(share, trees=30), training=True)[0]
    np.testing.assert_allclose(kept, X[TRAIN][theirs.predict(X[TRAIN]) > 0], 1e-6)


TEXT = {"city": CITY, "size": SIZE}
MATRIX = np.stack([CITY, SIZE], 1)


@pytest.mark.parametrize("rare", [0, 12])
def test_one_hot(rare):
    theirs = preprocessing.OneHotEncoder(
        min_frequency=rare or None, handle_unknown="infrequent_if_exist", sparse_output=False
    ).fit(MATRIX[TRAIN])
    found, names = made(encode.one_hot(rare=rare), data=TEXT)
    np.testing.assert_array_equal(found, theirs.transform(MATRIX[TEST]))
    assert names[-2:] == ("size=big", "size=small") and ("city=other" in names) == (rare > 0)


def test_other_codes_of_categories():
    theirs = preprocessing.OrdinalEncoder().fit(MATRIX[TRAIN]).transform(MATRIX[TEST])
    np.testing.assert_array_equal(made(encode.ordinal(), data=TEXT)[0], theirs)
    shares = np.stack([[np.mean(column[TRAIN] == v) for v in column[TEST]] for column in (CITY, SIZE)], 1)
    np.testing.assert_allclose(made(encode.frequency(), data=TEXT)[0], shares, 1e-6)
    joined = np.where(np.isin(CITY, [c for c in set(CITY) if np.sum(CITY[TRAIN] == c) >= 12]), CITY, "other")
    theirs = preprocessing.OneHotEncoder(sparse_output=False).fit(joined[TRAIN, None]).transform(joined[TEST, None])
    found, names = made(encode.rare(12), encode.one_hot(), data={"city": CITY})
    np.testing.assert_array_equal(found[:, np.argsort(names)], theirs)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "continuous"])
def test_target_means(kind):
    target = {"binary": KIND == 1, "multiclass": KIND, "continuous": AMOUNT}[kind]
    folds = model_selection.KFold if kind == "continuous" else model_selection.StratifiedKFold
    theirs = preprocessing.TargetEncoder(target_type=kind, cv=folds(5, shuffle=True, random_state=0))
    labels = target.astype(int) if kind != "continuous" else target
    out_of_fold = theirs.fit_transform(MATRIX[TRAIN], labels[TRAIN])
    text = target if kind == "continuous" else np.array([f"k{label}" for label in labels], object)
    found, _ = made(encode.target_mean(), data=TEXT, target=text)
    np.testing.assert_allclose(found, theirs.transform(MATRIX[TEST]), 1e-5)
    mine, _ = made(encode.target_mean(), data=TEXT, target=text, training=True)
    np.testing.assert_allclose(mine, out_of_fold, 1e-5)
    assert np.abs(mine - theirs.transform(MATRIX[TRAIN])).max() > 1e-3, "a row's own target has no part in its feature"


def test_spellings_and_hashes():
    words = ["New York", "new york", "York, New", "New Yrok", "Néw York", "Boston", "Type 1", "Type 2"] * 3
    data = table({"w": ["New York", *words]}, schema={"w": "category"})
    prepare = fit(data, encode.spellings())
    assert list(prepare.codes) == ["w"]
    codes = prepare(data).columns["codes"][1:9, 0].tolist()
    assert len(set(codes[:5])) == 1 and len(set(codes[4:])) == 4
    hashed = Column("category", buckets=16)
    data = table({"w": words}, schema={"w": hashed})
    theirs = FeatureHasher(16, input_type="string", alternate_sign=False)
    theirs = theirs.transform([[f"w={word}"] for word in words]).toarray()
    found = fit(data)(data).columns["codes"][:, 0]
    np.testing.assert_array_equal(np.eye(16)[found], theirs)


def test_dates():
    days = [datetime.datetime(1899, 12, 30, 23, 59) + datetime.timedelta(days=97.3 * i) for i in range(800)]
    data = table({"at": np.array(days, "datetime64[us]")})
    parts = ("year", "month", "day", "weekday", "day of year", "hour", "minute")
    found = fit(data, dates.parts(parts=parts))(data).columns["features"]
    expected = [[d.year, d.month, d.day, d.weekday(), d.timetuple().tm_yday, d.hour, d.minute] for d in days]
    np.testing.assert_array_equal(found, expected)
    made(dates.parts(parts=parts), data={"at": np.array(days[:178], "datetime64[us]")})
    found = fit(data, dates.cyclic(parts=("hour",), keep_days=True))(data).columns["features"]
    np.testing.assert_allclose(found[:, 0], [np.sin(d.hour / 12 * np.pi) for d in days], atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], [(d.date() - datetime.date(1970, 1, 1)).days for d in days])


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_bins(strategy):
    theirs = preprocessing.KBinsDiscretizer(4, strategy=strategy, encode="onehot-dense", quantile_method="linear")
    theirs = theirs.fit(X[TRAIN]).transform(X[TEST])
    np.testing.assert_array_equal(made(combine.bins(4, strategy=strategy), encode.one_hot())[0], theirs)


def test_crosses_and_group_statistics():
    data = {"city": CITY, "size": SIZE, "x": X[:, 0]}
    pairs = np.array([f"{a} x {b}" for a, b in MATRIX], object)
    steps = (combine.crosses("city", "size"), encode.one_hot(columns=("city x size",)), encode.ordinal())
    found, names = made(*steps, data=data)
    theirs = preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(pairs[TRAIN, None])
    np.testing.assert_array_equal(
        found[:, [n.startswith("city x") for n in names]], theirs.transform(pairs[TEST, None])
    )
    found, names = made(combine.group_statistics("city", statistics=("mean", "max")), encode.ordinal(), data=data)
    groups = [X[TRAIN & (city == CITY), 0] for city in CITY[TEST]]
    at = names.index("x mean by city")
    np.testing.assert_allclose(found[:, at : at + 2], [[np.mean(g), np.max(g)] for g in groups], 1e-6)


def best(score, count):
    return lambda x, y: feature_selection.SelectKBest(score, k=count).fit(x, y).get_support()


def important(model, count):
    return lambda x, y: np.argsort(np.argsort(np.abs(importance(model.fit(x, y))), kind="stable")) >= x.shape[1] - count


def importance(model):
    return model.feature_importances_ if hasattr(model, "feature_importances_") else np.ravel(model.coef_)


SELECTIONS = {
    "variance": (select.variance(0.2), None, lambda x, y: x.var(0) > 0.2),
    "pearson": (select.pearson(2), AMOUNT, best(feature_selection.f_regression, 2)),
    "chi2": (select.chi2(3), KIND, best(feature_selection.chi2, 3)),
    "mutual": (
        select.mutual_information(3), KIND,
        best(lambda x, y: feature_selection.mutual_info_classif(x, y, random_state=0), 3),
    ),
    "lasso": (select.lasso(0.2), AMOUNT, lambda x, y: np.abs(linear_model.Lasso(alpha=0.2).fit(x, y).coef_) > 1e-5),
    "ridge": (select.ridge(2), AMOUNT, important(linear_model.Ridge(), 2)),
    "trees": (select.trees(2), AMOUNT, important(ensemble.RandomForestRegressor(100, random_state=0), 2)),
    "recursive": (
        select.recursive(2), AMOUNT,
        lambda x, y: feature_selection.RFE(linear_model.Ridge(), n_features_to_select=2).fit(x, y).support_,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection(name):
    step, target, support = SELECTIONS[name]
    text = np.array([f"k{label}" for label in KIND], object) if target is KIND else target
    _, names = made(step, target=text)
    labels = None if target is None else target[TRAIN].astype(np.float32).astype(np.float64)
    assert names == tuple(np.array(NAMES)[support(X[TRAIN], labels)]) and len(names) < 6


def test_permutation_keeps_what_the_target_is_made_of():
    _, names = made(select.permutation(1), target=AMOUNT)
    assert names == ("x0",)


@pytest.mark.parametrize("make, words", [
    (lambda: made(scale.standard(columns=("x9",))), "unknown column 'x9'. Did you mean"),
    (lambda: made(scale.standard(columns=("city",)), data=TEXT), "'city' is of kind category at .*; expected number"),
    (lambda: made(project.pca(2), data=HOLES), r"project.pca\(\) needs complete columns; .*x0, x1.*missing.median"),
    (lambda: made(select.chi2(1)), r"select.chi2\(\) needs a target"),
    (lambda: made(select.trees(9), target=AMOUNT), "count=9; expected 1 to 6"),
    (lambda: made(scale.power(box_cox=True), data=-X), "scale.power.*strictly positive"),
    (lambda: fit(table({"c": [f"v{i % 1001}" for i in range(3003)]}), encode.one_hot()), "make 1001 columns of 'c'"),
    (lambda: made(missing.constant("Paris"), data=TEXT), "'Paris' is no category of 'city'"),
    (lambda: made(outliers.clip("iqr")), "rule 'iqr' is none of"),
    (lambda: made(outliers.drop(outliers.quantiles(0.5, 0.5)), training=True), "drops all 118 training rows"),
    (lambda: made(select.variance(1e9)), "keeps no column"),
    (lambda: made(dates.parts(parts=("moth",)), data={"at": ["2024-01-01"] * 178}), "date 'moth'. Did you mean"),
    (lambda: made("standard"), "'standard' is no step"),
])  # fmt: skip
def test_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()
