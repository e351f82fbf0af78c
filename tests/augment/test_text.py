"""Augmentation of texts: what may change, how often, and the synonyms of WordNet."""

from collections import Counter

import numpy as np
import pytest

from research.augment.text import delete, eda, insert_synonyms, replace_synonyms, shuffle_near, swap
from research.data import arrays, batches
from research.data.text.bag import bag
from research.data.text.preparation import fit_text
from research.data.text.wordnet import of_files
from research.errors import UserError

SYNONYMS = {"big": ("large", "great"), "dog": ("hound",)}
WORDS = "the Big dog saw a big cat".split()
RNG = np.random.default_rng(0)


def test_synonyms_replace_and_are_inserted():
    for _ in range(50):
        found = replace_synonyms(RNG, WORDS, synonyms=SYNONYMS, count=9)
        assert [found[i] for i in (0, 3, 4, 6)] == ["the", "saw", "a", "cat"] and found[2] == "hound"
        assert {found[1], found[5]} <= {"large", "great"}
        one = replace_synonyms(RNG, WORDS, synonyms=SYNONYMS, count=1)
        assert sum(a != b for a, b in zip(one, WORDS, strict=True)) == 1
        more = insert_synonyms(RNG, WORDS, synonyms=SYNONYMS, count=2)
        added = Counter(more) - Counter(WORDS)
        assert len(more) == 9 and set(added) <= {"large", "great", "hound"}
        assert [word for word in more if word in WORDS] == WORDS, "the words keep their order"
    assert replace_synonyms(RNG, ["the"], synonyms=SYNONYMS, count=3) == ["the"]
    assert insert_synonyms(RNG, [], synonyms=SYNONYMS, count=3) == []


def test_swaps_and_deletions():
    found = [swap(RNG, "abcd", count=1) for _ in range(2000)]
    assert all(
        sorted(one) == list("abcd") and sum(a != b for a, b in zip(one, "abcd", strict=True)) == 2 for one in found
    )
    pairs = Counter("".join(one) for one in found)
    assert len(pairs) == 6 and min(pairs.values()) > 250, "each of the six pairs, about 333 times"
    lengths = np.array([len(delete(RNG, WORDS, probability=0.3)) for _ in range(3000)])
    assert lengths.mean() == pytest.approx(7 * 0.7, abs=0.1)
    assert [len(delete(RNG, WORDS, probability=1)), delete(RNG, [], probability=1)] == [1, []]


def test_words_move_by_a_distance_at_most():
    places = [str(i) for i in range(12)]
    moved = np.stack([np.array(shuffle_near(RNG, places, distance=3), int) for _ in range(500)])
    assert np.abs(moved - np.arange(12)).max() == 3
    assert shuffle_near(RNG, WORDS, distance=0) == WORDS


def test_a_text_is_changed_by_one_of_four():
    made = [eda(RNG, "a b c d e f g h i j", synonyms={"a": ("x",)}) for _ in range(400)]
    kinds = Counter(
        "replaced" if "x" in text and len(text.split()) == 10 else "inserted" if "x" in text
        else "swapped" if len(text.split()) == 10 and text != "a b c d e f g h i j" else "deleted" for text in made
    )  # fmt: skip
    assert min(kinds.values()) > 70 and len(kinds) == 4
    assert eda(RNG, "", synonyms={}) == "" and eda(RNG, "a  b", synonyms={}, share=0) == "a  b"
    with pytest.raises(UserError, match=r"eda\(share=2\)"):
        eda(RNG, "a", synonyms={}, share=2)


def test_batches_augment_texts_by_record_and_epoch():
    data = arrays(text=["big dog big cat", "the dog saw a cat"] * 4, label=np.arange(8))
    prepare = fit_text(data, bag(weights="count", norm=None, entries=8))
    encoded = lambda rng, record: prepare.record({**record, "text": eda(rng, record["text"], synonyms=SYNONYMS)})
    source = batches(data, 8, augment=encoded, shuffle=False)
    first, again, next_epoch = source(1)(0), source(1)(0), source(1)(1)
    np.testing.assert_equal(first, again)
    np.testing.assert_array_equal(source(1)(0, rows=slice(3, 5))["values"], first["values"][3:5])
    assert set(first) == {"ids", "values", "label"} and (first["values"] != next_epoch["values"]).any()


def test_synonyms_of_wordnet_files():
    lines = b"  1 This software\n00001740 00 a 02 able 0 Well_Made(p) 1 005 = 0520 n 0000 | gloss\n"
    more = b"00002098 29 v 02 able 0 can 0 000 | x\n00002099 29 v 01 alone 0 000 | x\n"
    found = of_files({"a": lines, "b": more})
    assert found == {"able": ("can", "well made"), "well made": ("able",), "can": ("able",)}
