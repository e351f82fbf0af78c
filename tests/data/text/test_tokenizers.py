"""Tokenizers: ids of tiktoken and transformers, round trips, files that are damaged or of another kind."""

import json

import numpy as np
import pytest

from research.data.text.tokenizer import byte_tokenizer, json_tokenizer, read_tokenizer, saved_tokenizer
from research.data.text.train_tokenizer import KINDS, TOKENS, train_tokenizer
from research.data.text.words import Words
from research.errors import UserError
from tests.truth import load

LINES = [f"the {a} {b} of the {c}" for a in ("red", "green", "thin") for b in ("house", "tree") for c in "abcdefgh"]


@pytest.fixture(scope="module")
def truth():
    return load("text_tokenizers")


def texts_of(truth):
    return json.loads(truth["texts"].tobytes())


def rows(stored):
    return [part.tolist() for part in np.split(stored, np.flatnonzero(stored < 0) + 1)[:-1]]


def test_byte_level_bpe_has_the_ids_of_tiktoken(tmp_path, truth):
    for name, file in (("vocab", "vocab.json"), ("merges", "merges.txt")):
        (tmp_path / file).write_bytes(truth[name].tobytes())
    tokenizer, texts = read_tokenizer(tmp_path), texts_of(truth)
    assert [[*ids.tolist(), -1] for ids in tokenizer.encode_all(texts)] == rows(truth["bpe"])
    assert [tokenizer.decode(ids) for ids in tokenizer.encode_all(texts)] == texts
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match="has no merges.txt"):
        read_tokenizer(tmp_path)


def test_wordpiece_has_the_ids_of_transformers(tmp_path, truth):
    (tmp_path / "vocab.txt").write_bytes(truth["pieces"].tobytes())
    tokenizer, texts = read_tokenizer(tmp_path), texts_of(truth)
    assert [[*ids.tolist(), -1] for ids in tokenizer.encode_all(texts)] == rows(truth["wordpiece"])
    assert tokenizer.special == {"pad": 0, "unknown": 1, "begin": 2, "end": 3, "mask": 4}
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_tokenizer(tmp_path).encode("The thing").tolist() == [1, 10], "a capital letter is kept, and unknown"


def test_stems_are_those_of_nltk(truth):
    for language, (words, stems) in json.loads(truth["stems"].tobytes()).items():
        assert Words("words", language=language, stem=True)(" ".join(words)) == stems
    assert Words(stem=True)("Houses RUNNING") == ["hous", "run"], "in lower case"


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_tokenizer_is_saved_and_reads_the_text_back(kind, tmp_path):
    size = {"byte_bpe": 270, "unigram": 26}.get(kind, 60)
    tokenizer = train_tokenizer(LINES, kind=kind, vocabulary=size)
    assert tokenizer.vocabulary <= size and [tokenizer.special[n] for n in ("pad", "unknown", "begin", "end", "mask")] \
        == list(range(len(TOKENS)))  # fmt: skip
    for text in LINES:
        ids = tokenizer.encode(text)
        assert tokenizer.special["unknown"] not in ids and ids.max() < tokenizer.vocabulary
        assert tokenizer.decode(ids) == text
    tokenizer.save(tmp_path)
    again = saved_tokenizer(tmp_path)
    assert again.encode(LINES[3]).tolist() == tokenizer.encode(LINES[3]).tolist()
    assert read_tokenizer(tmp_path).special == tokenizer.special
    assert tokenizer.encode("").tolist() == []
    unseen = tokenizer.encode("zzz 日本")
    if kind == "byte_bpe":
        assert tokenizer.decode(unseen) == "zzz 日本" and tokenizer.special["unknown"] not in unseen
    else:
        assert tokenizer.special["unknown"] in unseen


def test_bytes_read_back():
    tokenizer = byte_tokenizer()
    assert tokenizer.encode("é").tolist() == [0xC3, 0xA9] and tokenizer.decode([256, 0xC3, 0xA9]) == "é"


def test_files_that_are_damaged_or_of_another_kind(tmp_path):
    train_tokenizer(LINES, kind="bpe", vocabulary=60).save(tmp_path)
    complete = (tmp_path / "tokenizer.json").read_bytes()
    for cut in (0, 1, len(complete) // 2, len(complete) - 2):
        with pytest.raises(UserError, match="is damaged: it is not complete JSON"):
            json_tokenizer(complete[:cut])
    (tmp_path / "tokenizer.json").write_text(json.dumps({"the": 0, "red": 1}))
    with pytest.raises(UserError, match=r"is no tokenizer.json: it has no entry 'model' \(it has \['red', 'the'\]\)"):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="cannot be read by tokenizers"):
        json_tokenizer(b'{"model": {"type": "Other"}}')
    unigram = train_tokenizer(LINES, kind="unigram", vocabulary=26)
    for content in (b"", complete, unigram.content[: len(unigram.content) // 2]):
        (tmp_path / "tokenizer.model").write_bytes(content)
        with pytest.raises(UserError, match="no model of SentencePiece"):
            read_tokenizer(tmp_path / "tokenizer.model")
    (tmp_path / "vocab.txt").write_text("the\nred\n")
    with pytest.raises(UserError, match=r"has no token \[UNK\]"):
        read_tokenizer(tmp_path / "vocab.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no tokenizer; expected tokenizer.json"):
        read_tokenizer(tmp_path / "empty")


def test_arguments_that_do_not_fit():
    with pytest.raises(UserError, match="kind of tokenizer 'bpee'.*Did you mean 'bpe'"):
        train_tokenizer(LINES, kind="bpee", vocabulary=60)
    with pytest.raises(UserError, match="vocabulary=100; byte_bpe needs at least 261"):
        train_tokenizer(LINES, kind="byte_bpe", vocabulary=100)
    with pytest.raises(UserError, match="got no text"):
        train_tokenizer(["", " "], kind="bpe", vocabulary=60)
    with pytest.raises(UserError, match="cannot be trained with vocabulary=5000"):
        train_tokenizer(LINES, kind="unigram", vocabulary=5000)
    with pytest.raises(UserError, match=r"encode\(\) got a bytes"):
        byte_tokenizer().encode(b"x")


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"tokenizers is not installed; it needs the extra: pip install -e '.\[text\]'"):
        train_tokenizer(LINES, kind="bpe", vocabulary=60)
