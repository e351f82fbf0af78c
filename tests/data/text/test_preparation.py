"""Bags and tokens: equal to scikit-learn's vectorizers, saved, loaded, and what they do with texts that do not fit."""

import json

import jax
import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from research.data import arrays, batches, eval_batches
from research.data.stored import reopening
from research.data.text.bag import bag
from research.data.text.clean import Cleaning
from research.data.text.preparation import fit_text, load_text, report
from research.data.text.tokens import padded_tokens, tokens
from research.data.text.words import Words
from research.errors import UserError
from research.model import from_nnx
from research.models.sparse import SparseClassifier
from tests.models.fresh import fresh

TRAIN = ["The red house is red.", "a green HOUSE, a tree", "red red wine", "trees are green; houses too", "", "the end"]
NEW = ["The unknown red house", "", "nothing known here? tree", "the the the red end " * 3]
LOWER = Cleaning(lower=True)
JSON, NPZ = "text.json", "text.npz"


def data(texts=TRAIN):
    return arrays(text=texts, label=np.arange(len(texts)) % 2)


def dense(records, vocabulary):
    found = np.zeros((len(records), vocabulary))
    for row, (ids, values) in enumerate(zip(records.columns["ids"], records.columns["values"], strict=True)):
        np.add.at(found[row], ids, values)
    return found


@pytest.mark.parametrize("ours, theirs", [
    ({}, {}), ({"sublinear": True, "ngrams": (1, 2)}, {"sublinear_tf": True, "ngram_range": (1, 2)}),
    ({"norm": None, "least": 2}, {"norm": None, "min_df": 2}),
    ({"norm": "l1", "share": 0.4}, {"norm": "l1", "max_df": 0.4}),
    ({"most": 3}, {"max_features": 3}),
    ({"unit": "char", "ngrams": (1, 3)}, {"analyzer": "char", "ngram_range": (1, 3)}),
    ({"unit": "char_wb", "ngrams": (2, 4)}, {"analyzer": "char_wb", "ngram_range": (2, 4)}),
    ({"weights": "count", "norm": None, "ngrams": (1, 2)}, {"ngram_range": (1, 2)}),
])  # fmt: skip
def test_the_values_are_those_of_scikit_learn(ours, theirs):
    theirs = (CountVectorizer if ours.get("weights") == "count" else TfidfVectorizer)(**theirs).fit(TRAIN)
    prepare = fit_text(data(), bag(entries=200, **ours), cleaning=LOWER)
    assert prepare.encoder.terms == tuple(theirs.get_feature_names_out())
    for texts in (TRAIN, NEW):
        records = prepare(data(texts))
        expected = theirs.transform(texts).toarray()
        np.testing.assert_allclose(dense(records, prepare.vocabulary), expected, atol=1e-6)


def test_the_sparse_layer_equals_the_dense_one():
    prepare = fit_text(data(), bag(), cleaning=LOWER)
    x = prepare(data(NEW)).columns
    for hidden, relu in (((), True), ((3,), False), ((4, 3), True)):
        make = lambda rngs, hidden=hidden, relu=relu: SparseClassifier(
            prepare.vocabulary, hidden=hidden, num_classes=2, relu=relu, rngs=rngs)  # fmt: skip
        model = from_nnx(make)
        params, stats = fresh(model)
        logits, _ = jax.jit(model.apply)(params, stats, x["ids"], x["values"])
        y = dense(prepare(data(NEW)), prepare.vocabulary) @ params["embed"]["embedding"] + params["bias"]
        for layer in (params["layers"][str(i)] for i in range(len(hidden))):
            y = (np.maximum(y, 0) if relu else y) @ layer["kernel"] + layer["bias"]
        np.testing.assert_allclose(logits, y, rtol=1e-5, atol=1e-6)


def test_hashed_n_grams_are_means_as_in_fasttext():
    prepare = fit_text(data(), bag(weights="mean", ngrams=(1, 2), buckets=50), cleaning=LOWER)
    words = len(prepare.encoder.terms)
    assert prepare.vocabulary == words + 50 and not any(" " in term for term in prepare.encoder.terms)
    made = prepare.encoded(["red house unseen"])
    # Two words, and the pairs "red house" and "house unseen", which hashing also gives an id; "unseen" has none.
    ids, values = made.fields["ids"][0], made.fields["values"][0]
    np.testing.assert_allclose(values[values > 0], 1 / 4)
    assert (ids[values > 0] >= words).sum() == 2 and made.unknown.tolist() == [1] and made.units.tolist() == [5]
    letters = fit_text(data(), bag(weights="count", unit="char", ngrams=(1, 2), buckets=64, norm=None))
    assert letters.vocabulary == 64 and letters.encoded(["abc"]).fields["values"].sum() == 5


@pytest.mark.parametrize("encoding", [
    bag(ngrams=(1, 2), words=Words(stem=True)), tokens(12), tokens(9, kind="words", vocabulary=12, keep="end"),
    tokens(9, kind="unigram", vocabulary=30),
], ids=["bag", "bytes", "words", "unigram"])  # fmt: skip
def test_the_folder_alone_encodes(encoding, tmp_path):
    prepare = fit_text(data(), encoding, cleaning=LOWER)
    prepare.save(tmp_path)
    again = load_text(tmp_path)
    assert repr(again) == repr(prepare) and load_text(tmp_path / "..") is None
    for name, values in prepare(data(NEW)).columns.items():
        np.testing.assert_array_equal(again(data(NEW)).columns[name], values)
    with reopening(again):
        assert fit_text(data(NEW), encoding, cleaning=LOWER) is again, "nothing is fitted again"
        assert fit_text(data(), encoding) is not again, "another cleaning"
    record = {"text": NEW[0], "label": 1}
    np.testing.assert_equal(prepare.record(record), prepare(data(NEW))[0] | record)


def test_a_damaged_folder_is_an_error(tmp_path):
    fit_text(data(), tokens(9, kind="words", vocabulary=12)).save(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "gone")
    with pytest.raises(UserError, match="has no file of its tokenizer, of the kind tokenizers"):
        load_text(tmp_path)
    fit_text(data(), bag()).save(tmp_path)
    (tmp_path / NPZ).write_bytes((tmp_path / NPZ).read_bytes()[:40])
    with pytest.raises(UserError, match=f"{NPZ} is damaged"):
        load_text(tmp_path)
    about = json.loads((tmp_path / JSON).read_text())
    del about["crc32"], about["encoder"]
    (tmp_path / JSON).write_text(json.dumps(about))
    fit_text(data(), bag()).encoder, (tmp_path / NPZ).unlink()
    np.savez(tmp_path / NPZ, idf=np.zeros(1))
    with pytest.raises(UserError, match=f"{JSON} is damaged: KeyError"):
        load_text(tmp_path)


def test_tokens_are_cut_and_padded():
    prepare, texts = fit_text(data(), tokens(6)), ["abc", "", "abcdefgh"]
    assert prepare.encoded(texts).cut.tolist() == [0, 0, 3], "the begin token takes a place"
    records = prepare(data(texts))
    assert records.columns["tokens"].tolist() == [
        [256, 97, 98, 99, 0, 0], [256, 0, 0, 0, 0, 0], [256, 97, 98, 99, 100, 101]]  # fmt: skip
    assert records.columns["segments"].sum(1).tolist() == [4, 1, 6]
    assert records.columns["positions"][0].tolist() == [0, 1, 2, 3, 0, 0]
    ends = fit_text(data(), tokens(3, keep="end", begin=False))(data(["abcde"]))
    assert ends.columns["tokens"].tolist() == [[99, 100, 101]]
    with pytest.raises(UserError, match="row 0 has 3 tokens; expected at most 2"):
        padded_tokens([np.arange(3)], length=2)


def test_what_does_not_fit_is_counted(tmp_path):
    prepare = fit_text(data(), bag(entries=2), cleaning=LOWER)
    made = prepare.encoded(NEW)
    assert made.units.tolist() == [4, 0, 4, 15] and made.unknown.tolist() == [1, 0, 3, 0]
    assert made.cut.tolist() == [1, 0, 0, 1]
    assert report(made) == (
        "4 units (17.4%) in 2 records are not in the vocabulary; 2 units (8.7%) in 2 records were left out of "
        "texts too long; 1 texts are empty (the first is record 1)"
    )
    known = prepare.encoder.terms
    assert sorted(known[i] for i in made.fields["ids"][3]) == ["end", "the"], "the largest values stay"
    assert report(fit_text(data(), tokens(80)).encoded(["a"])) == ""
    (tmp_path / "new.jsonl").write_text('{"text": "unseen words", "label": "x", "number": 3}\n')
    with pytest.warns(UserWarning, match=r"new.jsonl: 2 units \(100.0%\) in 1 records are not in the vocabulary"):
        records = prepare.read(tmp_path / "new.jsonl")
    assert records[0]["given label"] == "x" and records[0]["number"] == "3"
    assert set(eval_batches(records, 1)(0)) == {"ids", "values", "mask"}


def test_batches_of_prepared_texts_are_numbers():
    batch = batches(fit_text(data(), bag())(data()), 4)(0)(0)
    assert {name: x.shape[0] for name, x in batch.items()} == {"ids": 4, "values": 4, "label": 4}


def test_arguments_that_do_not_fit():
    with pytest.raises(UserError, match="field of text 'txt'.*Did you mean 'text'"):
        fit_text(data(), bag(), text="txt")
    with pytest.raises(UserError, match="the text of record 1 is not UTF-8"):
        fit_text([{"text": b"a fine text"}, {"text": b"\xff"}], bag())
    with pytest.raises(UserError, match="no term of the 2 training texts remains"):
        fit_text(data(["", "?"]), bag())
    for arguments, message in (
        ({"weights": "tfidf"}, "Valid: count, mean, tf_idf"), ({"unit": "chars"}, "Valid: char, char_wb, word"),
        ({"norm": "l3"}, "l3"),
        ({"ngrams": (2, 1)}, "the shortest and the longest"), ({"buckets": 9}, "no document frequency"),
        ({"least": 0}, "least=0"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            bag(**arguments)
    with pytest.raises(UserError, match="tokenizer= and kind="):
        tokens(5, tokenizer="x", kind="bpe")
    with pytest.raises(UserError, match="expected bag"):
        fit_text(data(), "bag")
    prepared = fit_text(data(), bag())(data())
    with pytest.raises(UserError, match="the records have the field 'ids'"):
        fit_text(data(), bag())(prepared)
