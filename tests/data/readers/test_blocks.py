"""Large tables in blocks: the same rows as `table` reads, whatever the size of a block."""

import gzip
import itertools

import pandas
import pytest

from research.data.readers import blocks as module
from research.data.readers.blocks import blocks
from research.errors import UserError

TEXT = 'a, b ,c\n1,"x, y",\n 2 ,"two\nlines",NA\n3,z,?\n4,,5.5\n'
ROWS = [
    {"a": "1", "b": "x, y", "c": None},
    {"a": "2", "b": "two\nlines", "c": None},
    {"a": "3", "b": "z", "c": None},
    {"a": "4", "b": None, "c": "5.5"},
]


def rows(path, size=3, **reading):
    found = list(blocks(path, rows=size, **reading))
    assert all(len(block) <= size for block in found)
    assert path.is_dir() or all(len(block) == size for block in found[:-1])
    return list(itertools.chain.from_iterable(b if isinstance(b, list) else b.to_pylist() for b in found))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_csv(tmp_path, size):
    (tmp_path / "a.csv").write_text(TEXT)
    assert rows(tmp_path / "a.csv", size) == ROWS
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert rows(tmp_path / "a.csv.gz", size) == ROWS


def test_forms_of_csv(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes("\ufeffnote\na;b\n1;é\n".encode())
    assert rows(tmp_path / "a.txt", skip=1) == [{"a": "1", "b": "é"}]
    (tmp_path / "b.csv").write_bytes("1|é\n".encode("latin-1"))
    assert rows(tmp_path / "b.csv", names=("x", "y"), encoding="latin-1") == [{"x": "1", "y": "é"}]
    monkeypatch.setattr(module, "BYTES", 64)
    (tmp_path / "c.csv").write_text("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(500)))
    assert rows(tmp_path / "c.csv", 7) == [{"a": str(i), "b": str(i * i)} for i in range(500)]


def test_parquet_and_json_lines(tmp_path):
    frame = pandas.DataFrame({"x": range(10), "y": ["a", None] * 5})
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=4)
    assert rows(tmp_path / "a.parquet") == [{"x": i, "y": None if i % 2 else "a"} for i in range(10)]
    (tmp_path / "a.jsonl").write_text('{"x": [1, 2]}\n\n{"x": []}\n')
    assert rows(tmp_path / "a.jsonl", 1) == [{"x": [1, 2]}, {"x": []}]


def test_a_folder_of_files_in_the_order_of_their_names(tmp_path):
    for number in (2, 1, 3):
        (tmp_path / f"{number}.csv").write_text(f"x\n{number}\n{number}\n")
    (tmp_path / "notes.md").write_text("none of them")
    assert [row["x"] for row in rows(tmp_path)] == list("112233")
    (tmp_path / "4.csv").write_text("y\n1\n")
    with pytest.raises(UserError, match=r"4.csv' has the columns \['y'\]; expected \['x'\]"):
        rows(tmp_path)


def test_errors(tmp_path):
    for name, text, words in (
        ("empty.csv", "", "is empty"),
        ("twice.csv", "a,a\n1,2\n", "has the column 'a' twice"),
        ("ragged.csv", "a,b\n1,2\n1,2,3\n", "Expected 2 columns, got 3"),
        ("bytes.csv", b"a,b\n1,\xff\n", "invalid UTF8|not UTF-8|UTF"),
        ("a.jsonl", '{"x": 1}\n{"x"\n', "line 2 is not JSON"),
        ("b.jsonl", "[1]\n", "line 1: a list; expected a JSON object"),
        ("a.parquet", "none", "a.parquet: "),
        ("a.xlsx", "none", "cannot be read in blocks"),
    ):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(UserError, match=words):
            rows(tmp_path / name)
    with pytest.raises(UserError, match="names= has 1 names; .* has 2 columns"):
        rows(tmp_path / "twice.csv", names=("x",))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="has no files of .csv"):
        rows(tmp_path / "folder")
