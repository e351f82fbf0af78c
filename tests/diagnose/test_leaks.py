"""Columns that leak the target are named, and good measurements are not."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from research.data import schema as schemas
from research.data.readers.table_files import read_frame
from research.diagnose.leaks import leaking_columns
from research.errors import UserError

RNG = np.random.default_rng(0)


def found(columns, target="y", **stated):
    columns = read_frame(columns, what="test")
    return leaking_columns(columns, schema=schemas.infer(columns, stated=stated, target=target), target=target)


def of(load):
    data = load()
    return {**{name: data.data[:, i] for i, name in enumerate(data.feature_names)}, "y": data.target}


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_diabetes])
def test_real_measurements_are_no_leaks(load):
    assert found(of(load)) == []


def planted(kind):
    columns = of(load_breast_cancer)
    y, n = columns["y"], len(columns["y"])
    code = np.array(["lump", "cyst", "scar", "node"], object)
    return (
        columns
        | {
            "copy": {"leak": y},
            "scaled": {"leak": 3.5 - 2 * y + 0.1 * RNG.normal(size=n)},
            "a code": {"leak": code[2 * y + RNG.integers(0, 2, n)]},
            "rarely wrong": {"leak": np.where(RNG.random(n) < 0.01, 1 - y, y)},
            "ranked": {"leak": y + RNG.normal(size=n) / 4.2},
            "dated": {"leak": np.array("2020-01-01", "M8[us]") + (y * 400 + RNG.integers(0, 300, n)).astype("m8[D]")},
        }[kind]
    )


@pytest.mark.parametrize("kind, certain", [
    ("copy", True), ("scaled", True), ("a code", True), ("dated", True), ("rarely wrong", False), ("ranked", False),
])  # fmt: skip
def test_planted_leaks_are_named(kind, certain):
    (leak,) = found(planted(kind))
    assert leak.column == "leak" and leak.origin == "values" and leak.certain == certain
    assert leak.score > 0.9 and leak.area > 0.97 and "leak (" in str(leak)


def test_missing_values_that_leak():
    """As the lifeboat of those who survived the Titanic, which is missing for nearly all others."""
    survived = RNG.random(800) < 0.38
    boat = np.where(RNG.random(800) < 0.97, survived, ~survived)
    columns = {"boat": [str(RNG.integers(1, 16)) if b else None for b in boat], "y": survived.astype(int)}
    (leak,) = found(columns)
    assert leak.column == "boat" and leak.origin == "missing values" and not leak.certain
    assert 0.85 < leak.score < 0.97 and "which values are missing" in str(leak)
    assert found({"boat": [None if RNG.random() < 0.4 else 1.5 for _ in survived], "y": survived.astype(int)}) == []


def test_identifiers_in_the_order_of_the_classes():
    """As the column Id of the iris table in circulation, which counts the rows sorted by kind."""
    columns = of(load_iris)
    assert [(leak.column, leak.origin) for leak in found({"Id": np.arange(1, 151), **columns})] == [("Id", "order")]
    text = [f"flower{i}" for i in range(150)]
    assert [leak.column for leak in found({"name": text, **columns})] == ["name"]
    mixed = RNG.permutation(150)
    assert found({"name": [text[i] for i in mixed], **columns}) == []
    # Patients whose numbers were given by hospital, and hospitals that treat one kind of patient.
    patient = np.repeat(np.arange(60), 5)
    sick = (patient < 20).astype(int) ^ (RNG.random(300) < 0.05)
    assert [leak.column for leak in found({"patient_id": patient * 7, "x": RNG.normal(size=300), "y": sick})] == [
        "patient_id"
    ]


def test_a_number_that_is_a_function_of_the_target():
    y = RNG.lognormal(size=500)
    (leak,) = found({"tax": np.log(y) + 0.01 * RNG.normal(size=500), "x": y + RNG.normal(size=500), "y": y})
    assert leak.column == "tax" and leak.score > 0.99 and np.isnan(leak.area)


def test_rare_classes_and_many_categories():
    y = (np.arange(3000) % 100 == 0).astype(int)
    assert found({"x": RNG.normal(size=3000), "city": RNG.integers(0, 900, 3000).astype(str), "y": y}) == []
    assert [leak.column for leak in found({"x": y + 0.05 * RNG.normal(size=3000), "y": y})] == ["x"]


def test_tables_that_are_too_small_and_unknown_targets():
    assert found({"x": [1.0, 2.0] * 5, "y": [0, 1] * 5}) == []
    assert found({"x": RNG.normal(size=50), "y": [1] * 50}) == []
    assert found({"x": RNG.normal(size=50), "y": [0] * 48 + [1] * 2}) == []
    assert found({"x": RNG.normal(size=50), "y": [None] * 40 + [0, 1] * 5}) == []
    columns = read_frame({"x": [1.0]}, what="test")
    with pytest.raises(UserError, match="unknown target column 'z'"):
        leaking_columns(columns, schema=schemas.infer(columns), target="z")


def test_infinite_targets_are_missing_and_huge_numbers_do_not_overflow():
    y = np.linspace(0, 1, 100)
    columns = {"y": [*y, np.inf], "copy": [*(y * 1e29), 0.0], "x": [*RNG.normal(size=100), 1e308]}
    assert [leak.column for leak in found(columns)] == ["copy"]
