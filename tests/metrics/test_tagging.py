import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Trained, merge
from research.errors import UserError
from research.metrics.attachment import attachment_scores
from research.metrics.entities import entity_counts, entity_counts_of_tags, tag_scheme
from research.metrics.tagging import measure_tags, tag_accuracy
from tests.metrics.sentences import tagged
from tests.truth import load

TRUTH = load("text_metrics")
CASES = [("BIO", "BIO"), ("IOBES", "IOBES"), ("lenient", "BIO"), ("lenient", "IOBES")]


@pytest.mark.parametrize(("scheme", "tags"), CASES, ids=lambda case: case)
def test_entities_are_those_of_seqeval(scheme, tags):
    predictions, true = tagged(tags)
    counts, types = entity_counts_of_tags(predictions, true, scheme=scheme)
    name = scheme if scheme == tags else f"{scheme}_{tags}"
    assert types == ("LOC", "PER")
    np.testing.assert_allclose(counts.table()[:2], TRUTH[f"entities_{name}"], rtol=1e-6)
    assert float(counts.value()) == pytest.approx(float(TRUTH[f"f1_{name}"]), rel=1e-6)


def test_segmentation_is_the_f1_of_words():
    """Words are entities of a single type: a word counts if both of its ends are right."""
    names = ["B", "I", "E", "S"]
    scheme = tag_scheme(names, scheme="lenient")
    true, found = ("BEBIESS", "BESBEBE")
    numbers = lambda text: np.array([names.index(c) for c in text])
    counts = entity_counts(numbers(found), numbers(true), scheme=scheme)
    spans = lambda text: {(0, 2), (2, 5), (5, 6), (6, 7)} if text == true else {(0, 2), (2, 3), (3, 5), (5, 7)}
    assert counts.correct.sum() == len(spans(true) & spans(found)) == 1
    assert counts.predicted.sum() == counts.true.sum() == 4


def test_counts_add_up_and_padding_is_outside():
    names = ["B-x", "I-x", "O"]
    scheme = tag_scheme(names)
    tags = np.array(list(itertools.product(range(3), repeat=4)))
    predictions = tags[::-1]
    whole = jax.jit(lambda a, b: entity_counts(a, b, scheme=scheme))(predictions, tags)
    parts = merge(*(entity_counts(predictions[i::2], tags[i::2], scheme=scheme) for i in (0, 1)))
    np.testing.assert_array_equal(whole, parts)
    weights = np.array([1, 1, 0, 0])
    padded = entity_counts(predictions, tags, scheme=scheme, weights=np.broadcast_to(weights, tags.shape))
    np.testing.assert_array_equal(padded, entity_counts(predictions[:, :2], tags[:, :2], scheme=scheme))
    assert entity_counts(tags[:, :0] + 2, tags[:, :0], scheme=scheme).value() == 0


def test_accuracy_of_known_and_unknown_words():
    tags = np.array([[0, 1, 2, -1], [1, 1, -1, -1]])
    logits = jax.nn.one_hot(np.array([[0, 2, 2, 0], [1, 0, 1, 1]]), 3)
    trained = Trained(lambda params, stats, x, train: (x, {}), {}, {})
    measure = measure_tags(
        lambda trained, batch: trained(batch["logits"]).argmax(-1),
        known=lambda batch: batch["word"] > 0,
        scheme=tag_scheme(["B-x", "I-x", "O"]),
    )
    batch = {"logits": logits, "tags": jnp.array(tags), "word": jnp.array([[1, 1, 0, 0], [1, 0, 0, 0]])}
    found = jax.jit(measure)(trained, batch)
    values = {name: float(found[name].value()) for name in ("accuracy", "accuracy_known", "accuracy_unknown")}
    assert values == pytest.approx({"accuracy": 3 / 5, "accuracy_known": 2 / 3, "accuracy_unknown": 1 / 2})
    assert found["f1"].true.tolist() == [1] and found["f1"].predicted.tolist() == [2] and found["f1"].value() == 0
    assert found["rows"].values["predicted_tag"].tolist() == [[0, 2, 2, -1], [1, 0, -1, -1]]
    assert float(measure(trained, {**batch, "mask": jnp.array([0, 1])})["accuracy"].weight) == 2
    assert list(tag_accuracy(tags, tags, weights=np.ones(tags.shape))) == ["accuracy"]


def test_attachment_scores_by_hand():
    found = attachment_scores(
        np.array([[2, 0, 2, 9]]), np.array([[1, 2, 1, 9]]),
        true_heads=np.array([[2, 0, 1, 9]]), true_relations=np.array([[1, 3, 1, 9]]), weights=np.array([[1, 1, 1, 0]]),
    )  # fmt: skip
    assert {name: float(mean.value()) for name, mean in found.items()} == pytest.approx({"uas": 2 / 3, "las": 1 / 3})


def test_wrong_tags_are_refused():
    with pytest.raises(UserError, match="tag 'E-x' in the scheme BIO; expected one of B, I, O"):
        tag_scheme(["B-x", "E-x"])
    with pytest.raises(UserError, match="unknown tag scheme 'IOBE'.*IOBES"):
        tag_scheme(["B-x"], scheme="IOBE")
    with pytest.raises(UserError, match="lengths of the sentences differ"):
        entity_counts_of_tags([["O"]], [["O", "O"]])
