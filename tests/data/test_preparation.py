"""A preparation as a whole: what it refuses and reports, what it saves, and what loading it cannot run."""

import json
import warnings

import jax
import numpy as np
import pytest

from research.data import Column, arrays, batches, fit, stratified, subset, table
from research.data.clean import missing, outliers
from research.data.features import encode, scale
from research.data.preparation import load_preparation
from research.data.steps import Fitted, Step
from research.data.stored import reopening
from research.errors import UserError

RNG = np.random.default_rng(0)
N = 60
JSON, NPZ = "preparation.json", "preparation.npz"
COLUMNS = {
    "age": [None if i % 9 == 0 else 20 + i % 50 for i in range(N)],
    "pay": RNG.normal(size=N).tolist(),
    "city": [["Rome", "Oslo", None][i % 3] for i in range(N)],
    "name": [f"n{i}" for i in range(N)],
    "income": [["low", "high"][i % 4 == 0] for i in range(N)],
}
STEPS = (missing.median(flag=True), missing.most_frequent(), scale.standard(), encode.one_hot())


def people(target="income", **changes):
    return table({**COLUMNS, **changes}, target=target)


@pytest.fixture(scope="module")
def prepare():
    return fit(people(), *STEPS)


def test_rows_become_features(prepare):
    assert prepare.names == ("age", "pay", "age missing", "city=Oslo", "city=Rome")
    assert repr(prepare) == "Preparation(4 steps, 5 features, fitted on 60 rows; not used: name)"
    train, test = (subset(people(), rows) for rows in stratified(people().column("income"), (40, None), seed=0))
    rows = fit(train, *STEPS)(test)
    assert rows.classes == ("high", "low") and rows.columns["features"].shape == (20, 5)
    assert rows.columns["name"].tolist() == test.column("name").tolist(), "an identifier stays"
    assert set(batches(rows, 4)(0)(0)) == {"features", "label"}
    known = [v for v, row in zip(COLUMNS["age"], range(N), strict=True) if v is not None and row in train.indices]
    at = test.indices.tolist().index(next(i for i in test.indices if COLUMNS["age"][i] is None))
    filled = np.where(np.isin(train.indices, np.arange(0, N, 9)), np.median(known), 0)
    filled += np.array([COLUMNS["age"][i] or 0 for i in train.indices])
    assert rows.columns["features"][at, 0] == pytest.approx((np.median(known) - filled.mean()) / filled.std(), abs=1e-6)
    assert rows.columns["features"][at, 2] == 1


def new(**changes):
    return table({name: values[:3] for name, values in {**COLUMNS, **changes}.items()}, schema={"name": "text"})


@pytest.mark.parametrize("changes, words", [
    ({"age": [1, 30, 134]}, r"column 'age' has 1 \(row 0 and 1 more rows: 2\); expected 20 to 69: accepted"),
    ({"city": ["Rome", "Roma", "Rome"]}, r"'city' has 'Roma' \(row 1\); expected one of Oslo, Rome: accepted"),
    ({"more": [1, 2, 3]}, "columns that the schema does not have are not used: more"),
])  # fmt: skip
def test_what_the_schema_does_not_expect_is_reported(prepare, changes, words):
    with pytest.warns(UserWarning, match=words):
        assert np.isfinite(prepare(new(**changes)).columns["features"]).all()


@pytest.mark.parametrize("changes, words", [
    ({"age": ["x", "y", "z"]}, r"'age' has 'x' \(row 0 and 2 more rows: 1, 2\); expected an integer: refused"),
    ({"age": [30.5, 31, 32]}, r"'age' has 30.5 \(row 0\); expected an integer: refused"),
    ({"pay": [1, np.inf, 2]}, r"'pay' has inf \(row 1\); expected a finite number: refused"),
    ({"pay": [np.datetime64("2024-01-01", "us")] * 3}, "'pay' has '2024-01-01"),
])  # fmt: skip
def test_another_type_is_refused(prepare, changes, words):
    with pytest.raises(UserError, match=words):
        prepare(new(**changes))


def test_a_missing_column_is_refused(prepare):
    rows = {name: values[:3] for name, values in COLUMNS.items() if name != "city"}
    with pytest.raises(UserError, match=r"the column 'city' \(category\) is missing. Did you mean 'cty'"):
        prepare(table({**rows, "cty": ["Rome"] * 3}))


@pytest.mark.parametrize("rule, found", [("refuse", None), ("missing", [0, np.nan, np.nan]), ("clip", [0, 0, 9])])
def test_the_schema_states_what_happens(rule, found):
    schema = {"x": Column("number", low=0, high=9, otherwise=rule)}
    prepare = fit(table({"x": [0.0, 5, 9]}, schema=schema))
    rows = table({"x": [0.0, -1, 10]})
    if rule == "refuse":
        with pytest.raises(UserError, match=r"'x' has -1.0 \(row 1 and 1 more rows: 2\); expected 0 to 9: refused"):
            prepare(rows)
        return
    with pytest.warns(UserWarning, match="expected 0 to 9: (made missing|clipped)"):
        np.testing.assert_array_equal(prepare.coded(rows.columns)["x"], found)
    categories = Column("category", categories=("a",), otherwise="missing")
    with pytest.warns(UserWarning, match="'b'.*made missing"):
        coded = fit(table({"c": ["a"]}, schema={"c": categories})).coded({"c": np.array(["a", "b"], object)})
    np.testing.assert_array_equal(coded["c"], [0, np.nan])


def test_numbers_of_categories_are_the_same_from_every_source():
    prepare = fit(table({"c": ["1", "2", "x"]}, schema={"c": "category"}))
    for values in (np.array([1, 2]), np.array([1.0, 2.0, np.nan]), np.array(["1", "2"], object)):
        assert prepare.coded({"c": values})["c"][:2].tolist() == [0, 1]


@pytest.mark.parametrize("make, words", [
    (lambda: fit(people(name=[f"some words {i}" for i in range(N)])), r"text are .*: name. .*without=\('name',\)"),
    (lambda: fit(people(name=["2024-01-01"] * N)), r"dates are no features: name. Add dates.parts\(\)"),
    (lambda: fit(people())(people()), "row 0: the feature 'age' is nan, and 6 more.*missing.median"),
    (lambda: fit(people(), missing.median())(people()), "row 2: the feature 'city' is nan.*missing.most_frequent"),
    (lambda: fit(people(age=[None] * N), missing.mean()), r"'age' has no value in .* rows.*without=\('age',\)"),
    (lambda: fit(people(income=[None] * N)), "the target 'income' is missing in row 0"),
    (lambda: fit(people("pay", age=[1e39, *range(N - 1)]))(people("pay", age=[1e39, *range(N - 1)])), "'age' is inf"),
    (lambda: fit(people(), without="nam"), "unknown column of without= 'nam'. Did you mean 'name'"),
    (lambda: fit(arrays(x=np.zeros(3))), "expected a table, or a subset of one; got Arrays"),
    (lambda: fit(people(), *STEPS, target=scale.standard()), "target= is for a target that is a number"),
    (lambda: fit(people("pay"), target=missing.mean()), "has no inverse"),
    (lambda: fit(people(), *STEPS)(subset(people(), [1]), training=True), "with 1 rows; .* fitted on 60"),
    (lambda: fit(table({"c": ["a", "b"]}, target="c")), "no column that could be a feature"),
])  # fmt: skip
def test_what_cannot_be_prepared_is_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_what_is_rare_but_sound():
    one = table({"x": [3.0], "c": ["a"], "y": [1.5]}, target="y")
    row = fit(one, scale.standard(), encode.one_hot())(one)[0]
    assert row["features"].tolist() == [0, 1] and row["target"].tolist() == [1.5]
    same = table({"x": [1.0, 2.0], "y": ["a", "a"]}, target="y")
    assert fit(same)(same).classes == ("a",)
    many = table({"c": [f"k {i}" for i in range(100_000)]}, schema={"c": "category"})
    codes = fit(many)(many).columns["codes"][:, 0]
    assert len(set(codes.tolist())) == 100_000 and fit(many).codes == {"c": 100_001}
    embedded = fit(people(), missing.median(), missing.as_category())
    assert embedded.codes == {"city": 4} and embedded(people()).columns["codes"][:3, 0].tolist() == [1, 0, 2]


def test_dropped_rows_keep_their_labels_and_names():
    data = people()
    rows = fit(data, missing.delete(columns=("age",)), missing.most_frequent(), encode.one_hot())
    kept = [i for i in range(N) if COLUMNS["age"][i] is not None]
    with pytest.raises(UserError, match=r"rows that the preparation was fitted on.*prepare\(train, training=True\)"):
        rows(data)
    assert len(rows(subset(data, kept[:5]))) == 5
    prepared = rows(data, training=True)
    assert prepared.columns["name"].tolist() == [f"n{i}" for i in kept]
    assert prepared.columns["label"].tolist() == [int(COLUMNS["income"][i] == "low") for i in kept]


def test_a_saved_preparation_is_the_same(prepare, tmp_path):
    numbers = fit(people("pay"), *STEPS, target=scale.power())
    for one in (
        prepare,
        numbers,
        fit(people(), outliers.winsorise(columns=("pay",)), missing.median(), missing.as_category()),
    ):
        one.save(tmp_path)
        loaded = load_preparation(tmp_path)
        assert loaded.schema == dict(one.schema) and repr(loaded) == repr(one) and loaded.names == one.names
        data = people(one.target)
        for name, values in one(data).columns.items():
            np.testing.assert_array_equal(loaded(data).columns[name], values)
        coded = {name: values.astype(np.float32) for name, values in one.coded(data.columns).items()}
        ours, theirs = jax.jit(loaded.apply)(coded), one(data).columns
        for name, values in ours.items():
            assert values.dtype == theirs[name].dtype
            np.testing.assert_allclose(values, theirs[name], 1e-5, 1e-5)
    assert not (tmp_path / NPZ).read_bytes().count(b"pickle") and load_preparation(tmp_path / "none") is None


@pytest.mark.parametrize("change, words", [
    ({"apply": "os.system"}, "unknown function of a preparation 'os.system'"),
    ({"apply": "research.data.preparation.load_preparation"}, "unknown function of a preparation"),
    ({"training": "features.scale.affin"}, "'features.scale.affin'. Did you mean 'features.scale.affine'"),
])  # fmt: skip
def test_loading_calls_no_other_function(prepare, tmp_path, change, words):
    prepare.save(tmp_path)
    about = json.loads((tmp_path / JSON).read_text())
    about["steps"][2] |= change
    del about["crc32"]
    (tmp_path / JSON).write_text(json.dumps(about))
    with pytest.raises(UserError, match=words):
        load_preparation(tmp_path)


def test_damage_is_found(prepare, tmp_path):
    prepare.save(tmp_path)
    content = (tmp_path / NPZ).read_bytes()
    (tmp_path / NPZ).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="preparation.npz is damaged"):
        load_preparation(tmp_path)
    np.savez(tmp_path / NPZ, **{"0/values": np.array([object()], object)})
    with pytest.raises(UserError, match="pickled objects"):
        load_preparation(tmp_path)


def test_a_function_of_ones_own_cannot_be_saved(tmp_path):
    own = Step("own", {}, lambda frame: Fitted(lambda columns, arrays: columns, {}, {}))
    with pytest.raises(UserError, match="is not registered with @applied"):
        fit(people(), own, *STEPS).save(tmp_path)


def test_a_reopened_run_is_not_fitted_again(prepare, tmp_path):
    other = people(age=list(range(1000, 1000 + N)))
    with reopening(prepare) as reopened:
        assert fit(other, *STEPS) is prepare and fit(other, *STEPS[:3], missing.constant(0)) is not prepare
        gone = table(tmp_path / "gone.csv", target="income")
        assert reopened.absent == [str(tmp_path / "gone.csv")] and len(gone) == N
        parts = stratified(gone.column("income"), (30, None), seed=0)
        rows = prepare(subset(gone, parts[0]), training=True)
        assert np.isnan(rows.columns["features"]).all() and set(rows.columns["label"]) == {0, 1}
        (tmp_path / "damaged.csv").write_text("a,b\n1\n")
        with pytest.raises(UserError, match="row 2: 1 cells"):
            table(tmp_path / "damaged.csv")
    with pytest.raises(UserError, match="there is no table"):
        table(tmp_path / "gone.csv")


def test_no_warning_without_a_reason(prepare):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(people())
