"""Tags of characters by hand, the textbook's example of maximum matching, and that of jieba's documentation."""

import pytest

from research.data.text.characters import character_ngrams, longest_words, name_tags, sentences, word_tags
from research.data.text.words import jieba_tagged
from research.errors import UserError


def test_words_and_names_are_tags_of_characters():
    assert "".join(word_tags(["我", "爱", "北京", "天安门", "图书馆员"])) == "SSBEBIEBIIE"
    words, kinds = ["邓", "小平", "在", "北京", "天津"], ["per", "per", "", "loc", "loc"]
    tags = ["B-per", "I-per", "I-per", "O", "B-loc", "I-loc", "B-loc", "I-loc"]
    assert name_tags(words, kinds, joined=("per",)) == tags
    assert name_tags(words, kinds)[1] == "B-per" and name_tags(["他"], [""], joined=("",)) == ["O"]
    with pytest.raises(UserError, match="2 words have 1 kinds; expected one each"):
        name_tags(["a", "b"], ["per"])


def test_characters_are_read_with_those_after_them():
    assert character_ngrams("abc", 2) == ["ab", "bc", "c "] and character_ngrams("abc", 1) == ["a", "b", "c"]
    assert character_ngrams("", 3) == []


def test_sentences_end_after_a_mark():
    words, kinds = ["好", "。", "不", "！", "行"], list("abcde")
    assert sentences(words, kinds) == [(["好", "。"], ["a", "b"]), (["不", "！"], ["c", "d"]), (["行"], ["e"])]
    assert sentences(words[:2]) == [(["好", "。"],)] and sentences([]) == []


def test_maximum_matching_from_the_end():
    split = longest_words({"研究", "研究生", "生命", "命", "的", "起源"})  # from the begin: 研究生 命 的 起源
    assert split("研究生命的起源") == ["研究", "生命", "的", "起源"]
    assert longest_words(["北京大学", "大学"])("北京大学") == ["北京大学"]
    assert split("在研究x") == ["在", "研究", "x"] and longest_words([])("ab") == ["a", "b"]


def test_jieba_gives_parts_of_speech():
    pytest.importorskip("jieba")
    assert jieba_tagged("我爱北京天安门") == (["我", "爱", "北京", "天安门"], ["r", "v", "ns", "ns"])
