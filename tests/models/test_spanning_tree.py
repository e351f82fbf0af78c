import itertools

import numpy as np
import pytest

from research.errors import UserError
from research.models.spanning_tree import best_tree
from tests.truth import load

TRUTH = load("spanning_trees")


def is_tree(heads):
    """Whether every word reaches the root 0, and one word has it as head."""
    for word in range(1, len(heads) + 1):
        seen = set()
        while word and word not in seen:
            seen.add(word)
            word = heads[word - 1]
        if word:
            return False
    return sum(head == 0 for head in heads) == 1


def total(scores, heads):
    return scores[np.arange(len(heads)), heads].sum()


@pytest.mark.parametrize("words", [1, 2, 3, 4, 5])
def test_it_is_the_best_of_all_trees(words):
    trees = np.array([heads for heads in itertools.product(range(words + 1), repeat=words) if is_tree(heads)])
    assert len(trees) == words ** (words - 1)  # Cayley: trees of n nodes with a root
    for seed in range(30):
        scores = np.random.default_rng(seed).normal(size=(words, words + 1))
        scores[:, 0] += 2 * (seed % 3 - 1)  # the root attracts all words, or none
        totals = [total(scores, heads) for heads in trees]
        assert best_tree(scores).tolist() == trees[int(np.argmax(totals))].tolist()


def test_its_score_is_that_of_networkx():
    for name in (name for name in TRUTH if name.startswith("scores_")):
        heads = best_tree(TRUTH[name])
        assert is_tree(heads)
        assert total(TRUTH[name], heads) == pytest.approx(float(TRUTH[name.replace("scores", "best")]), rel=1e-9)


def test_a_tree_stays_and_the_diagonal_is_ignored():
    heads = np.array([2, 0, 2, 3, 3])
    scores = np.where(np.arange(6) == heads[:, None], 1.0, 0.0)
    scores[np.arange(5), np.arange(1, 6)] = np.nan
    assert best_tree(scores).tolist() == heads.tolist()
    assert best_tree(np.zeros((0, 1))).tolist() == []
    with pytest.raises(UserError, match=r"shape \[3, 3\]; expected \[words, words \+ 1\]"):
        best_tree(np.zeros((3, 3)))
    with pytest.raises(UserError, match="finite"):
        best_tree(np.full((2, 3), np.nan))
