import numpy as np
import pytest

from research.data.text.tagged import UNKNOWN, fit_words, tagged_rows
from research.errors import UserError

TRAIN = [["the", "cat", "sat"], ["the", "dog"]]


def rows(sentences, tags, **options):
    options = {"vocabulary": fit_words(TRAIN), "names": {"tags": ["D", "N", "V"]}, "length": 4, "letters": 4, **options}
    return tagged_rows(sentences, {"tags": tags}, **options)


def test_rare_words_are_unknown_but_seen_and_characters_are_kept():
    words = fit_words(TRAIN)
    assert words.words == {"the": 2} and words.seen == {"the", "cat", "sat", "dog"}
    assert set(fit_words(TRAIN, least=1).words.values()) == {2, 3, 4, 5}
    found = rows([["the", "cat", "abcdef"], ["dog"]], [["D", "N", "V"], ["N"]])
    data = found.data.columns
    assert found.text == [["the", "cat", "abcdef", "dog"]]
    assert data["words"].tolist() == [[2, UNKNOWN, UNKNOWN, UNKNOWN]]
    assert data["segments"].tolist() == [[1, 1, 1, 2]] and data["tags"].tolist() == [[0, 1, 2, 1]]
    assert data["known"].tolist() == [[True, True, False, True]]
    number = words.characters
    # The first and the last two letters of a longer word; those that no training word has are unknown.
    expected = [number["a"], UNKNOWN, number["e"], UNKNOWN]
    assert data["characters"][0, 2].tolist() == expected and data["characters"][0, 1, 3] == 0


def test_rows_are_padded_with_no_tag_and_long_sentences_are_split():
    found = rows([["the"] * 6], [["D"] * 6])
    data = found.data.columns
    assert sorted((data["tags"] >= 0).sum(1).tolist()) == [2, 4] and (data["tags"] == 0).sum() == 6
    outside = data["segments"] == 0
    assert (data["tags"][outside] == -1).all() and not data["words"][outside].any() and not data["known"][outside].any()
    assert np.array(found.text)[outside].tolist() == ["", ""]


def test_wrong_tags_are_refused():
    with pytest.raises(UserError, match="unknown value of tags 'X'"):
        rows([["the"]], [["X"]])
    with pytest.raises(UserError, match="other numbers of tags"):
        rows([["the"]], [["D", "N"]])
