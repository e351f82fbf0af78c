"""The advice runs as it is pasted, and its features are finite."""

import warnings

import numpy as np
import pytest

from research.data import subset, table
from research.data.clean import missing, outliers  # noqa: F401  (used by the lines)
from research.data.features import dates, encode, scale  # noqa: F401
from research.data.schema import Column  # noqa: F401
from research.data.steps import Step
from research.diagnose.findings_page import with_code
from research.explore.explored import explored
from tests.explore.tables import N, people


def run(found, **names):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "column 'fare' has inf")  # the treatment that the lines ask for
        exec(compile(found.code, "pasted", "exec"), space := dict(names))
    return space


def csv(path, columns):
    cell = lambda value: "" if value is None else str(value)
    rows = [",".join(columns), *(",".join(map(cell, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def found():
    return explored(people(), target="income")


def test_the_lines_run_from_a_file_to_finite_features(tmp_path):
    columns = people(income=[None if i == 5 else x for i, x in enumerate(people()["income"])])
    path = csv(tmp_path / "people.csv", columns)
    found = explored(path, target="income", missing=("", "-"))
    space = run(found)
    train, test = space["features"]
    assert len(space["train"]) + len(space["test"]) == N - 1 and len(train) + len(test) == N - 1
    for part in (train, test):
        assert np.isfinite(part.columns["features"]).all() and set(part.columns["label"]) == {0, 1}
    names = space["prepare"].names
    assert {"age missing", "fare missing", "zip", "city=Rome", "city=(missing)", "joined month"} <= set(names)
    assert not {"same", "nothing", "note", "key", "bonus"} & set(names) and not space["prepare"].codes


@pytest.mark.parametrize("target", ("height", "fare", None))
def test_the_lines_run_for_a_number_and_without_a_target(target):
    train, test = run(found := explored(people(), target=target), frame=people())["features"]
    assert np.isfinite(train.columns["features"]).all() and ("target" in train.columns) == (target is not None)
    assert len(train) + len(test) == N - (target == "fare")
    assert found.groups.names[0].startswith(target or "all rows")


def test_the_lines_run_for_a_table_in_memory():
    data = table(people(), target="income", schema={"age": "category"})
    part = subset(data, np.arange(5, 200))
    kept = explored(part)
    assert len(kept.source.table) == 195 and kept.source.table.target == "income"
    space = run(explored(data), data=data)
    assert np.isfinite(space["features"][0].columns["features"]).all()
    tame = explored(table(people(fare=None), target="income"))
    assert run(tame, data=tame.source.table)["prepare"].fitted == 192


def test_every_remedy_that_is_code_is_valid_code(found):
    seen = []
    for one in found.findings:
        for remedy in one.remedies:
            html = str(with_code(remedy))
            if "<code>" not in html or "`" in remedy:
                continue
            code = remedy[remedy.index(": ") + 2 :] if ": " in remedy else remedy
            name, _, value = code.partition("=")
            if name in ("without", "schema"):
                assert eval(value), remedy
            elif not name.startswith(("data ", "train ")):
                assert isinstance(eval(code), Step), remedy
            seen.append(one.rule)
    assert set(seen) >= {"missing values", "no value", "infinite numbers", "many categories", "skewed numbers", "text"}


def test_the_findings_name_what_was_planted(found):
    texts = {one.rule: one.text for one in found.findings}
    planted = {
        "no value": "nothing", "missing values": "age", "infinite numbers": "fare", "constant columns": "same",
        "many categories": "zip", "dates": "joined", "text": "note", "skewed numbers": "fare", "outliers": "speed",
        "strong correlation": "inches",
    }  # fmt: skip
    assert "bonus (100.0 % of the error, ROC area 1.000)" in texts["leaking columns"]
    assert "'bonus'" in found.code.partition("without=")[2]
    for rule, name in planted.items():
        assert repr(name) in texts[rule], rule
    assert [one.problem for one in found.findings] == sorted((one.problem for one in found.findings), reverse=True)
    assert list(found.with_target)[:2] == ["bonus", "age"]


def test_a_quiet_table_has_no_findings():
    rng = np.random.default_rng(1)
    quiet = {"a": rng.uniform(size=100), "b": rng.uniform(size=100), "y": ["u", "v"] * 50}
    assert explored(quiet, target="y").findings == ()


def test_findings_about_the_target():
    rare = ["a"] * 235 + ["b"] * 5
    rules = lambda y: {one.rule: one for one in explored(people(income=y), target="income").findings}
    assert "'b' has 5 rows, 2.1 %" in rules(rare)["rare class"].text
    assert rules(["a"] * N)["constant target"].problem
    assert "'income'" not in explored(people(income=["a"] * N), target="income").code.partition("without=")[2]
    absent = rules([None] * 40 + people()["income"][40:])["missing target"]
    assert "40 of 240 rows" in absent.text and absent.remedies == ("data = subset(data, data.known())",)


def test_repeated_rows_are_found():
    columns = {name: [*values, values[5], values[5]] for name, values in people().items()}
    columns["key"] = [f"k{i}" for i in range(N + 2)]
    found = explored(columns, target="income")
    assert found.duplicates.repeats.rows.tolist() == [N, N + 1]
    assert {one.rule: one.text for one in found.findings}["duplicates"].startswith("2 of 242 rows equal an earlier row")
