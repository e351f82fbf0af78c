import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from research.data import arrays
from research.data.labels import choose
from research.data.labels.crowd import dawid_skene, majority_vote
from research.data.labels.rules import apply_rules, rule_table
from research.errors import UserError
from tests.truth import load

TRUTH = load("raters")
VOTES = TRUTH["votes"]


def test_consensus_is_that_of_crowd_kit():
    np.testing.assert_allclose(majority_vote(VOTES, num_classes=3), TRUTH["shares"], rtol=1e-12)
    found = dawid_skene(VOTES, num_classes=3, iterations=1000, tolerance=0)
    np.testing.assert_allclose(found.probabilities, TRUTH["probabilities"], atol=1e-4)
    np.testing.assert_allclose(found.confusion, TRUTH["confusion"], atol=1e-4)
    assert (np.diff(found.log_likelihood) > -1e-9).all() and np.diff(found.log_likelihood)[0] > 0.1


def test_rows_without_votes_and_perfect_raters():
    votes = np.array([[0, 1, 1, -1], [0, 1, 1, -1]])
    np.testing.assert_array_equal(majority_vote(votes, num_classes=2)[3], [0.5, 0.5])
    found = dawid_skene(votes, num_classes=2)
    np.testing.assert_allclose(found.probabilities[:3], [[1, 0], [0, 1], [0, 1]], atol=1e-9)
    np.testing.assert_allclose(found.probabilities[3], found.prior, atol=1e-9)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (np.array([[0, 3]]), "rater 0 gives record 1 the class 3; expected 0 to 2, or -1"),
        (np.array([[0.0, 1.0]]), r"votes are float64\[1, 2\]; expected integers \[raters, rows\]"),
        (np.array([[-1, -1]]), "every entry is -1"),
    ],
)
def test_votes_that_are_none_are_errors(votes, message):
    with pytest.raises(UserError, match=message):
        dawid_skene(votes, num_classes=3)


RULES = {
    "link": lambda record: "spam" if "http" in record["text"] else None,
    "greeting": lambda record: "ham" if record["text"].startswith("dear") else None,
    "shout": lambda record: "spam" if record["text"].isupper() else "ham",
}


def test_rules_vote_or_abstain():
    data = arrays(text=["dear friend", "http://x", "BUY NOW", "dear http"])
    votes = apply_rules(data, RULES, classes=("ham", "spam"))
    np.testing.assert_array_equal(votes, [[-1, 1, -1, 1], [0, -1, -1, 0], [0, 0, 1, 0]])
    table = rule_table(votes, tuple(RULES), labels=np.array([0, 1, 1, -1]))
    assert table["link"] == (0.5, 0.5, 0.5, 1.0) and table["greeting"] == (0.5, 0.5, 0.25, 1.0)
    assert table["shout"] == (1.0, 0.75, 0.5, 2 / 3) and np.isnan(rule_table(votes, tuple(RULES))["link"].accuracy)
    with pytest.raises(UserError, match="unknown class of record 1 by the rule 'link' 'spam'"):
        apply_rules(data, RULES, classes=("ham", "spma"))
    with pytest.raises(UserError, match="there are no rules"):
        apply_rules(data, {}, classes=("ham",))


def test_scores_of_a_network_and_of_a_committee():
    p = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(choose.uncertainty(p), [0.5, 0, 2 / 3])
    np.testing.assert_allclose(choose.margin(p), [0.8, 0, 1])
    np.testing.assert_allclose(choose.entropy(p), scipy_entropy(p.T))
    agree = np.stack([p, p])
    np.testing.assert_allclose(choose.information(agree), 0, atol=1e-12)
    apart = np.array([[[1.0, 0.0], [0.9, 0.1]], [[0.0, 1.0], [0.9, 0.1]]])
    np.testing.assert_allclose(choose.information(apart), [np.log(2), 0], atol=1e-12)
    np.testing.assert_allclose(choose.vote_entropy(apart), [np.log(2), 0])


def test_a_core_set_covers_within_twice_the_optimum():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 2)) * 100
    features = np.repeat(centres, 20, 0) + rng.normal(size=(100, 2))
    chosen = choose.core_set(features, np.array([3]), count=4)
    assert sorted({int(row) // 20 for row in chosen} | {0}) == [0, 1, 2, 3, 4]  # one of each cluster
    radius = lambda rows: np.sqrt(((features[:, None] - features[rows]) ** 2).sum(-1)).min(1).max()
    assert radius([3, *chosen]) <= 2 * radius([3, 20, 40, 60, 80])
    np.testing.assert_array_equal(choose.core_set(np.ones((3, 2)), np.array([0]), count=2), [1, 2])
    with pytest.raises(UserError, match="of 99 rows without a label; expected 1 to 99"):
        choose.core_set(features, np.array([3]), count=100)
