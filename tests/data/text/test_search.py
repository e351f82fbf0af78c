"""BM25 as bm25s computes it, the sentence of an answer, and training pairs by hand."""

import numpy as np
import pytest
from scipy import sparse

from research.data.text.search import bm25, cloze_queries, hard_negatives, search
from research.errors import UserError
from tests.truth import load

TEXTS = ["Cats sleep. Dogs bark loudly at night, and cats run.", "A dog barks.", "Cars are fast; a train is faster."]


@pytest.mark.parametrize("k1, b", [(1.2, 0.75), (0.9, 0.4)])
def test_scores_are_those_of_bm25s(k1, b):
    truth = load("search")
    found = search(truth["texts"].tolist(), k1=k1, b=b)
    np.testing.assert_allclose(found.scores(truth["queries"].tolist()), truth[f"scores_{k1}_{b}"], rtol=1e-5, atol=1e-6)


def test_settings_out_of_range_are_told():
    counts = sparse.csr_array(np.eye(2))
    with pytest.raises(UserError, match=r"bm25\(k1=-1\); expected a finite number of at least 0"):
        bm25(counts, k1=-1)
    with pytest.raises(UserError, match=r"bm25\(b=2\); expected 0 to 1"):
        bm25(counts, b=2)


def test_the_sentence_with_the_words_of_the_query_answers():
    found = search(TEXTS)
    assert found.sentence("Do dogs bark at night?", 0) == "Dogs bark loudly at night, and cats run."
    assert found.sentence("something else", 0) == "Cats sleep."


def test_a_sentence_is_a_query_for_the_rest():
    texts = ["One two three four five. Short one. Six seven eight nine ten!", "Only one sentence that is long enough."]
    found = cloze_queries(texts, count=5)
    assert sorted(found.queries) == ["One two three four five.", "Six seven eight nine ten!"]
    assert found.numbers.tolist() == [0, 0]
    for query, answer in zip(found.queries, found.answers, strict=True):
        assert query not in answer and "Short one." in answer and len(answer) == len(texts[0]) - len(query) + 1
    assert len(cloze_queries(texts, count=1).queries) == 1 and not cloze_queries(texts[1:], count=3).queries


def test_negatives_are_wrong_texts_that_the_search_finds():
    found = search(TEXTS)
    assert hard_negatives(found, ["cats and dogs", "dog"], np.array([1, 1]), hardest=1)[0] == 0
    drawn = hard_negatives(found, ["cats"] * 200, np.zeros(200, int), hardest=2)
    assert set(drawn.tolist()) == {1, 2}
    with pytest.raises(UserError, match=r"hard_negatives\(hardest=3\) of 3 texts; expected at least 1 and fewer"):
        hard_negatives(found, ["x"], np.array([0]), hardest=3)
