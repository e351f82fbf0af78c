"""Tables from files, databases and other libraries, and the schema that is inferred from them."""

import csv
import datetime
import gzip
import io
import json
import sqlite3
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from research.data import Column, batches, column, eval_batches, subset, table
from research.data.readers import table_files
from research.data.readers.dates import dates
from research.errors import UserError

ROWS = {
    "age": [31, None, 47, 52],
    "pay": [1.5, 2.25, None, -3.0],
    "city": ["Rome", "Oslo", None, "Rome"],
    "member": [True, False, True, True],
    "kind": ["b", "a", "b", "b"],
}
FIELDS = {
    "age": [31, np.nan, 47, 52], "pay": [1.5, 2.25, np.nan, -3], "city": ["Rome", "Oslo", "", "Rome"],
    "member": [1, 0, 1, 1], "label": [1, 0, 1, 1],
}  # fmt: skip


def same(data, fields=FIELDS):
    for name, values in fields.items():
        found = data.take_columns(np.arange(len(data)))[name]
        assert (found.tolist() == values) if found.dtype == object else np.array_equal(found, values, equal_nan=True), (
            name
        )
    return True


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


CSV = "age,pay,city,member,kind\n31,1.5,Rome,1,b\n,2.25,Oslo,0,a\n47,NA,?,1,b\n52, -3.0 , Rome,1,b\n"


def test_text_in_several_forms(tmp_path):
    assert same(data := table(written(tmp_path / "a.csv", CSV), target="kind"))
    assert data.classes == ("a", "b") and data[1]["city"] == "Oslo" and len(subset(data, data.known("age", "pay"))) == 2
    assert column(data, "kind").tolist() == ["b", "a", "b", "b"]
    for name, text, encoding, options in (
        ("b.csv", CSV.replace(",", ";").replace(".", ","), "utf-8-sig", {"decimal": ","}),
        ("c.tsv", CSV.replace(",", "\t"), "utf-16", {}),
        ("d.csv", CSV.replace("Rome", "Gen\u00e8ve"), "cp1252", {}),
        ("e.data", CSV.split("\n", 1)[1], "utf-8", {"names": list(ROWS)}),
        ("f.csv", CSV.replace("Rome", "Gen\u00e8ve"), "iso8859-1", {"encoding": "iso8859-1"}),
        ("g.test", "A comment, of the file\n1\n" + CSV, "utf-8", {"format": "csv", "skip": 2}),
    ):
        cities = ["Gen\u00e8ve" if city == "Rome" and name in ("d.csv", "f.csv") else city for city in FIELDS["city"]]
        assert same(
            table(written(tmp_path / name, text, encoding), target="kind", **options), {**FIELDS, "city": cities}
        )
    (tmp_path / "g.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    assert same(table(tmp_path / "g.csv.gz", target="kind"))


def test_text_is_what_the_standard_library_reads(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        [repr(x), str(y), f'say "{i}"\nor {i}']
        for i, (x, y) in enumerate(zip(rng.normal(size=50).tolist(), range(50), strict=True))
    ]
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file, delimiter="|").writerows([["x", "y", "t"], *rows])
    data = table(tmp_path / "a.csv")
    assert [[repr(float(r["x"])), str(r["y"]), r["t"]] for r in (data[i] for i in range(50))] == rows


def test_other_files_and_tables(tmp_path):
    arrow = pa.table(ROWS)
    pa.parquet.write_table(arrow, tmp_path / "a.parquet")
    written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in arrow.to_pylist()))
    categories = arrow.set_column(2, "city", arrow["city"].dictionary_encode())
    for source in (tmp_path / "a.parquet", tmp_path / "a.jsonl", arrow, ROWS, categories):
        assert same(table(source, target="kind"))


def test_databases_and_object_stores(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("create table people (age integer, pay real, city text, member integer, kind text)")
        shop.executemany("insert into people values (?, ?, ?, ?, ?)", list(zip(*ROWS.values(), strict=True)))
    shop.close()
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    assert same(table(url, query="select * from people", target="kind"))
    with pytest.raises(UserError, match="the query failed: no such table: peple"):
        table(url, query="select * from peple")
    with fsspec.open("memory://bucket/a.csv", "w") as file:
        file.write(CSV)
    assert same(table("memory://bucket/a.csv", target="kind"))
    with pytest.raises(UserError, match="there is no file memory://bucket/b.csv"):
        table("memory://bucket/b.csv")
    with pytest.raises(UserError, match="cannot read nowhere://a.csv: .*nowhere"):
        table("nowhere://a.csv")


def test_excel(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(ROWS))
    for row in zip(*ROWS.values(), strict=True):
        book.active.append(row)
    book.create_sheet("more").append(["x"])
    book.save(tmp_path / "a.xlsx")
    assert same(table(tmp_path / "a.xlsx", target="kind"))
    with pytest.raises(UserError, match="unknown sheet of .*'mor'. Did you mean 'more'"):
        table(tmp_path / "a.xlsx", sheet="mor")
    with pytest.raises(UserError, match="has no rows"):
        table(tmp_path / "a.xlsx", sheet="more")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frame = pytest.importorskip(library).DataFrame(ROWS)
    assert same(table(frame, target="kind"))


@pytest.mark.parametrize("name, source, options", [
    ("sqlalchemy", "sqlite://", {"query": "select 1"}), ("fsspec", "memory://a.csv", {}), ("openpyxl", "a.xlsx", {}),
])  # fmt: skip
def test_an_extra_that_is_missing_is_named(monkeypatch, tmp_path, name, source, options):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.xlsx", "x")
    with pytest.raises(UserError, match=r"needs the extra: pip install -e '.\[table\]'"):
        table(source, **options)


@pytest.mark.parametrize("text, options, words", [
    ("", {}, "is empty"),
    ("\n \n", {}, "is empty"),
    ("a,b\n", {}, "has no rows"),
    ("a,b\n1,2\n3\n", {}, "row 3: 1 cells; expected 2"),
    ("a,b\n1,2,3\n4,5\n", {}, "row 2: 3 cells"),
    ('a,b\n"x,2\n', {}, "row 2: 1 cells; .*close the quotes"),
    ("a,a\n1,2\n", {}, "column 'a' twice"),
    ("specias,b\nx,2\n", {"target": "species"}, r"'species'\. Did you mean 'specias'\?"),
    ("label,b\nx,2\n", {"target": "b"}, "column 'label' besides"),
    ("a,b\n1,2\n", {"names": ["x"]}, "names= has 1 names; .* has 2 columns"),
    ("a,b\n1,2\n", {"sheet": "x"}, "sheet= is not an option"),
    ("a,b\n1,2\n", {"format": "csw"}, "unknown format of a table 'csw'. Did you mean 'csv'"),
    ("a,b\n1,2\n", {"encoding": "utf-99"}, "encoding 'utf-99'"),
    ("a,b\n1,2\n", {"schema": {"c": "number"}}, "unknown column of the schema 'c'"),
    ("a,b\n1,2\n", {"schema": {"a": "numbr"}}, "unknown kind of the column 'a' 'numbr'. Did you mean 'number'"),
    ("a,b\n1,2\0\n", {}, "is not text"),
    ("a,b\n" + "1,2\n3,4\n5,6\n7,8\n" + "x,2\n", {}, "column 'a' has 4 different numbers, and 'x'.*missing="),
    ("d,b\n2024-04-03,1\n2024-05-03,1\n05/06/2024,2\n", {}, "column 'd' has dates of .*ISO.*'05/06/2024' in row 2"),
    ("d,b\n03/04/2024,1\n05/06/2024,2\n", {}, "dates of the column 'd'.*'%d/%m/%Y' or '%m/%d/%Y'. State the form"),
])  # fmt: skip
def test_text_that_is_refused(tmp_path, text, options, words):
    with pytest.raises(UserError, match=words):
        table(written(tmp_path / "a.csv", text), **options)


def test_missing_files_and_other_formats(tmp_path):
    written(tmp_path / "flowers.csv", "a\n1\n")
    for make, words in (
        (lambda: table(tmp_path / "flower.csv"), "Did you mean 'flowers.csv'"),
        (lambda: table(tmp_path / "a.docx"), "expected a file that ends in .csv, .tsv"),
        (lambda: table(written(tmp_path / "b.parquet", "x")), "b.parquet: .*"),
        (lambda: table(written(tmp_path / "b.jsonl", '{"a": 1}\n{"a": "x"}\n')), "from number to string in row 1"),
        (lambda: table(written(tmp_path / "c.jsonl", '{"a": [1]}\n')), "column 'a', is of type list<.*jsonl"),
        (lambda: table({"a": [1, "x"]}), "dict cannot be read as a table"),
        (lambda: table({"a": [1], "b": [1, 2]}), "dict cannot be read as a table"),
        (lambda: table({"d": [datetime.date(2024, 1, 1)]}, target="d"), "the target 'd' is of kind date"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            make()


def test_kinds_of_columns():
    n = np.arange(30)
    data = table({
        "count": n % 7, "share": n / 7, "gap": [None, *map(float, n[1:])], "row": n, "user_id": (n * 17) % 97,
        "code": [f"x{i}" for i in n], "note": [f"a b {i}" for i in n], "city": [f"c{i % 3}" for i in n],
        "day": [f"2024-01-{i + 1:02d}" for i in n], "at": [f"{i + 1}.1.2024 1{i % 10}:30" for i in n],
        "zip": [f"0{i % 4}123" for i in n], "none": [None] * 30, "grade": n % 3,
    }, target="grade", schema={"row": "integer"})  # fmt: skip
    kinds = {name: one.kind for name, one in data.schema.items()}
    assert kinds == {
        "count": "integer", "share": "number", "gap": "integer", "row": "integer", "user_id": "identifier",
        "code": "identifier", "note": "text", "city": "category", "day": "date", "at": "date", "zip": "category",
        "none": "number", "grade": "category",
    }  # fmt: skip
    one = data.schema
    assert (
        one["count"][2:4] == (0, 6)
        and one["gap"].missing == pytest.approx(1 / 30, abs=1e-6)
        and one["none"].missing == 1
    )
    assert one["city"].categories == ("c0", "c1", "c2") and data.classes == ("0", "1", "2")
    assert table({"year": 1990 + n}).schema["year"].kind == "integer"
    assert one["at"].time and not one["day"].time and one["at"].form == "%d.%m.%Y %H:%M"
    assert np.datetime64(int(one["day"].low), "D") == np.datetime64("2024-01-01")
    with pytest.raises(UserError, match="unknown class of the target 'grade' in row 0 '0'"):
        table({"grade": [0, 1]}, target="grade", schema={"grade": Column("category", categories=("1",))})[0]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%b %d, %Y", "%d %B %Y", "%Y/%m/%d"])
def test_dates_are_those_of_the_standard_library(form):
    days = [datetime.date(1969, 2, 28) + datetime.timedelta(days=31 * i) for i in range(40)]
    one = table({"d": [day.strftime(form) for day in days]})
    times, wrong = dates(one.columns["d"], one.schema["d"].form)
    assert one.schema["d"].kind == "date" and not wrong.any()
    assert times.astype("datetime64[D]").tolist() == days
    text = datetime.date(2024, 4, 30).strftime(form).replace("30", "31")
    for bad in (text, text.replace("2024", "24"), "soon"):
        assert dates(np.array([bad, ""], object), one.schema["d"].form)[1].tolist() == [True, False]


def test_times_with_a_zone_and_fractions():
    text = np.array(["2024-03-01T10:20:30.25Z", "", "2024-02-30"], object)
    assert str(dates(text[:1], "")[0][0]) == "2024-03-01T10:20:30.250000"
    assert dates(text, "")[1].tolist() == [False, False, True] and dates(text, "")[0][0] == dates(text[:1], "")[0][0]


def test_text_is_not_left_out_of_batches():
    data = table({"x": [1.0, 2], "c": ["a", "b"], "d": [datetime.date(2024, 1, 1)] * 2, "y": ["u", "v"]}, target="y")
    for make in (batches, eval_batches):
        with pytest.raises(UserError, match=r"have none: c \(category\), d \(date\).*prepare = fit"):
            make(subset(data, [0]), 1)
    assert set(batches(table({"x": [1.0, 2], "y": ["u", "v"]}, target="y"), 2)(0)(0)) == {"x", "label"}


def test_columns_that_are_cleaned_by_hand():
    data = table({"x": [1, 2, 3], "y": ["a.", "b", "a"]}, target="y")
    data = data.with_columns(y=[text.rstrip(".") for text in data.columns["y"]], z=["0", None, "0"])
    assert data.classes == ("a", "b") and column(data, "label").tolist() == [0, 1, 0]
    assert data.schema["z"].kind == "category" and data.columns["z"].tolist() == ["0", "", "0"]


def test_targets():
    assert table({"x": [1, 2], "y": [0.5, 2.5]}, target="y")[1]["target"].tolist() == [2.5]
    assert table({"x": [1] * 30, "y": np.arange(30) * 2}, target="y")[1]["target"].tolist() == [2.0]
    data = table({"x": [1, 2, 3], "y": ["b", None, "a"]}, target="y")
    with pytest.raises(UserError, match=r"target 'y' is missing in row 1.*subset\(data, data.known\(\)\)"):
        batches(data, 3)(0)(0)
    assert column(subset(data, data.known()), "label").tolist() == [1, 0] and column(data, "label").tolist() == [
        1,
        -1,
        0,
    ]


def test_ten_thousand_columns(tmp_path):
    text = io.StringIO()
    csv.writer(text).writerows([[f"c{i}" for i in range(10_000)], range(10_000), range(10_000)])
    data = table(written(tmp_path / "wide.csv", text.getvalue()))
    assert len(data.schema) == 10_000 and data.columns["c9999"].tolist() == [9999, 9999]


def test_a_form_that_is_added_is_read():
    assert {table_files.kind_of(f"a{suffix}") for suffix in table_files.FORMATS} == set(table_files.OPTIONS)
