"""The exploration page: its sections, hostile and extreme tables, and errors."""

import re

import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.explore import explore
from research.explore.page import page
from tests.explore.tables import N, people
from tests.explore.test_advice import csv
from tests.report.test_page import Page

HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e $x_1$"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return explore(people(), target="income", out=tmp_path_factory.mktemp("pages") / "page.html")


def read(found):
    text = found.path.read_text("utf-8") if found.path else page(found)
    parsed = Page(text)
    assert parsed.open == [] and not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", text)
    assert not any(tag == "script" or any(key.startswith("on") for key in given) for tag, given in parsed.tags)
    return parsed


def test_the_page_has_all_sections_and_loads_nothing(found):
    parsed = read(found)
    sections = [given["id"] for tag, given in parsed.tags if tag == "section"]
    assert sections == ("findings preparation columns balance-of-income distributions-by-class missing-values "
                        "correlations outliers duplicates leaks views method").split()  # fmt: skip
    links = [given[key] for _, given in parsed.tags for key in ("href", "src", "xlink:href") if key in given]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "prepare = fit(" in parsed.text and "age" in parsed.text
    assert parsed.text.count("high") > 1 and found.classes == {
        "high": found.classes["high"],
        "low": N - found.classes["high"],
    }


def test_the_same_table_gives_the_same_page(found):
    assert page(found._replace(path=None)) == found.path.read_text("utf-8")


def test_views_separate_what_is_separate():
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b"], 60)
    shift = np.where(label == "a", 0, 30)[:, None]
    x = rng.normal(size=(120, 3)) + shift
    found = explore({**{f"x{i}": x[:, i] for i in range(3)}, "y": label}, target="y", out="/dev/null")
    for points in (found.views.pca, found.views.tsne):
        group = found.groups.of_row[found.views.rows]
        centres = [points[group == g].mean(0) for g in (0, 1)]
        nearest = np.argmin([np.linalg.norm(points - c, axis=1) for c in centres], 0)
        assert (nearest == group).mean() > 0.98
    assert found.views.explained.sum() > 0.9 and found.views.features == 3


def test_hostile_names_and_values_are_text(tmp_path):
    columns = people(**{HOSTILE: [HOSTILE, "b", "c"] * 80, f"{HOSTILE}2": np.arange(N) ** 2.0, "fare": None})
    columns["income"] = [HOSTILE if x == "high" else x for x in columns["income"]]
    found = explore(columns, target="income", out=tmp_path / "page.html")
    assert "<script>alert(1)" in read(found).text
    exec(found.code, {"frame": columns})


def one_row():
    return {name: values[:1] for name, values in people(key=None, note=None).items()}


@pytest.mark.parametrize("columns, target, words", [
    (one_row(), "income", ("Constant target", "too few rows")),
    ({"x": [None] * 30, "y": ["a", "b"] * 15}, "y", ("no value in any row",)),
    ({"x": ["one"] * 30, "z": range(30), "y": ["a", "b"] * 15}, "y", ("same value in all rows",)),
    ({"x": np.arange(30.0), "z": range(30), "y": ["a"] * 30}, "y", ("there is nothing to learn",)),
    ({"x": np.arange(30.0), "y": [None] * 30}, "y", ("missing or infinite in 30 of 30 rows",)),
    ({"x": np.arange(30.0), "y": [None, 1.5, 2.5] * 10}, "y", ("missing or infinite in 10 of 30 rows",)),
    ({"x": [np.inf, -np.inf, np.nan] * 10, "y": ["a", "b"] * 15}, "y", ("Infinite numbers",)),
    ({"x": [np.inf, 1e308, -1e308, 5e-324] * 10, "y": ["a", "b"] * 20}, "y", ("Infinite numbers",)),
    ({"x": [1.0]}, None, ("too few",)),
    ({"y": ["a", "b"] * 20}, "y", ("nothing to prepare",)),
])  # fmt: skip
def test_extreme_tables_have_a_page(columns, target, words, tmp_path):
    text = read(explore(columns, target=target, out=tmp_path / "page.html")).text
    for word in words:
        assert word in text


def test_ten_thousand_columns(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 10_000))
    columns = {f"x{i}": x[:, i] for i in range(10_000)} | {"y": np.where(x[:, 7777] > 0, "a", "b")}
    found = explore(columns, target="y", out=tmp_path / "page.html")
    parsed = read(found)
    assert "x7777" in parsed.text and "9,801 more columns are not listed" in parsed.text
    assert found.path.stat().st_size < 3e6


def test_a_hundred_thousand_categories(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"x": [f"c{i}" for i in rng.integers(0, 100_000, 300_000)], "y": rng.choice(["a", "b"], 300_000)}
    found = explore(columns, target="y", out=tmp_path / "page.html")
    assert found.summaries["x"].distinct > 90_000 and "target_mean" in found.code
    assert found.path.stat().st_size < 1e6


@pytest.mark.parametrize("content, words", [
    ("", "is empty"),
    ("a,b\n", "no rows"),
    ("a,a\n1,2\n", "the column 'a' twice"),
    ("a,b\n1,2\n", "unknown target column .* Did you mean"),
])  # fmt: skip
def test_errors_are_those_of_table(content, words, tmp_path):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(UserError, match=words):
        explore(tmp_path / "x.csv", target="aa", out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_wrong_arguments():
    with pytest.raises(UserError, match="there is no"):
        explore("peple.csv")
    with pytest.raises(UserError, match="has no splits"):
        explore({"x": [1, 2]}, split="test")
    with pytest.raises(UserError, match="state it in table"):
        from research.data import table

        explore(table({"x": [1, 2], "y": ["a", "b"]}), target="y")
    with pytest.raises(UserError, match="does not apply to a table"):
        explore(table({"x": [1, 2], "y": ["a", "b"]}), missing=("-",))
    with pytest.raises(UserError, match="cannot be written"):
        explore({"x": [1, 2]}, out="/proc/none/page.html")


def test_the_verb_writes_the_page_and_prints_findings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    columns = people(note=None, nothing=["-"] * N)
    csv(tmp_path / "some people.csv", columns)
    command = "explore", "some people.csv", "--target", "income", "--missing", "", "-", "--kind", "zip=text"
    assert main([*command]) == 0
    out = capsys.readouterr().out
    assert "look: missing values: The columns 'age', 'city' have" in out and "Page: explore-some-people.csv.html" in out
    assert "The column 'zip' has text" in out
    assert main(["explore", "some people.csv", "--kind", "zip"]) == 2
    assert "expected COLUMN=KIND" in capsys.readouterr().err


def test_a_password_is_not_on_the_page(tmp_path):
    import sqlalchemy

    path = tmp_path / "shop.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table t (x int, y text)"))
        connection.execute(sqlalchemy.text("insert into t values (1, 'a'), (2, 'b')"))
    engine.dispose()
    found = explore(f"sqlite:///{path}", query="select * from t", out=tmp_path / "page.html")
    assert found.source.name == "query" and len(found.summaries) == 2
    from research.explore.source import _shown

    assert _shown("postgresql://me:secret:x@host/db") == "postgresql://me:***@host/db"
