"""Cleaning and words of texts."""

import sys

import numpy as np
import pytest

from research.data import arrays
from research.data.text.clean import Cleaning, texts_of, without_markup
from research.data.text.words import Words, stop_words
from research.errors import UserError


@pytest.mark.parametrize("settings, text, clean", [
    ({}, "e\u0301", "\u00e9"), ({"form": None}, "e\u0301", "e\u0301"), ({"form": "NFKC"}, "ﬁ ①", "fi 1"),
    ({"controls": True}, "a\x00b\u200bc\u200dd\te\ue000", "abc\u200dd\te"),
    ({"lower": True}, "ÄB", "äb"), ({"accents": False}, "Ärger café", "Arger cafe"),
    ({"spaces": True}, " a\n\t b ", "a b"),
    ({"markup": True, "spaces": True}, "<p>5 &lt; 6 &amp; <b>b</b>old</p><script>x<y</script><p>next<br>line",
     "5 < 6 & bold next line"),
    ({}, "", ""),
])  # fmt: skip
def test_cleaning(settings, text, clean):
    assert Cleaning(**settings)(text) == clean


def test_markup_without_an_end_keeps_the_text():
    assert without_markup("a <b>c") == "a c" and without_markup("a < b") == "a < b"
    assert without_markup("<!-- no -->a<style>p{}</style>b") == "ab"


def test_an_unknown_form_is_refused():
    with pytest.raises(UserError, match="Unicode normal form 'NFKCC'.*Did you mean 'NFKC'"):
        Cleaning(form="NFKCC")("a")


def test_texts_are_strings_bytes_or_arrays_of_utf_8():
    rows = [{"text": np.frombuffer("é".encode(), np.uint8)}, {"text": np.frombuffer(b"ab", np.uint8)}]
    assert texts_of(rows[1:]).tolist() == ["ab"]
    assert texts_of(arrays(text=["a", None, "c"])).tolist() == ["a", "", "c"]
    assert texts_of([{"text": "é".encode()}]).tolist() == ["é"]
    with pytest.raises(UserError, match=r"the text of record 1 is not UTF-8: byte 2 of 4 is 0xff \(around ab\\xffc\)"):
        texts_of([{"text": b"fine"}, {"text": b"ab\xffc"}])
    with pytest.raises(UserError, match="record 0 is of type int64; expected a string"):
        texts_of(arrays(text=[1, 2]))


def test_words():
    text = "A naïve plan: it's 42."
    assert Words()(text) == ["naïve", "plan", "it", "42"]
    assert Words("all_words")(text) == ["A", "naïve", "plan", ":", "it", "'", "s", "42", "."]
    assert Words("spaces")(text) == ["A", "naïve", "plan:", "it's", "42."]
    assert Words()("") == []
    with pytest.raises(UserError, match="splitter 'word'.*Did you mean 'words'"):
        Words("word")("a")
    with pytest.raises(UserError, match="language of the stemmers 'xx'"):
        Words(language="xx", stem=True)("a")


def test_chinese_is_segmented(monkeypatch):
    assert Words("jieba")("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]  # of jieba's README


def test_stop_words_are_removed_in_upper_and_lower_case(monkeypatch):
    monkeypatch.setattr("research.data.text.words.stop_words", {"en": frozenset({"the", "and"})}.__getitem__)
    assert Words(stop=True)("The plan AND the map") == ["plan", "map"]


def test_spacy_segments_and_has_stop_words():
    pytest.importorskip("spacy", reason="needs the extra `spacy`")
    assert Words("spacy")("I don't know U.K. laws.") == ["I", "do", "n't", "know", "U.K.", "laws", "."]
    assert Words("spacy", language="de")("z. B. Häuser") == ["z.", "B.", "Häuser"]
    assert {"the", "and"} <= stop_words("en") and Words(stop=True)("The plan and the map") == ["plan", "map"]
    with pytest.raises(UserError, match="spaCy has no language 'xyz'"):
        stop_words("xyz")


def test_a_missing_library_names_the_extra(monkeypatch):
    for library, settings, extra in (
        ("spacy", {"splitter": "spacy", "language": "fr"}, "spacy"),
        ("snowballstemmer", {"stem": True, "language": "fi"}, "text"),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(UserError, match=rf"it needs the extra: pip install -e '.\[{extra}\]'"):
            Words(**settings)("une phrase")
