import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from research.errors import UserError
from research.metrics.scores import chain, class_scores, composite, ranking

RNG = np.random.default_rng(0)


def counted(label, prediction, num_classes):
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (label, prediction), 1)
    return {"confusion": counts}


def rows(label, scores):
    scores = np.asarray(scores, np.float32)
    scores = np.stack([1 - scores, scores], -1) if scores.ndim == 1 else scores
    return {"rows": {"label": np.asarray(label, np.int32), "probabilities": scores}}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_precision_recall_and_f1_are_sklearns_for_any_labels_and_predictions(pairs):
    label, prediction = np.array(pairs).T
    averages = ("macro", "weighted", "micro")
    found = class_scores(*averages)(counted(label, prediction, 5))
    assert len(found) == 9
    for average in averages:
        three = sklearn.metrics.precision_recall_fscore_support(label, prediction, average=average, zero_division=0)
        for name, expected in zip(("precision", "recall", "f1"), three, strict=False):
            assert found[f"{name}_{average}"] == pytest.approx(expected)


def test_precision_recall_and_f1_by_hand():
    label, prediction = np.array([1, 1, 1, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 1, 0, 0])
    found = class_scores("binary")(counted(label, prediction, 2))
    assert found == pytest.approx({"precision_binary": 2 / 4, "recall_binary": 2 / 3, "f1_binary": 4 / 7})
    assert set(class_scores()(counted(label, prediction, 2))) == {"precision_macro", "recall_macro", "f1_macro"}
    # Class 1 is never predicted: its precision counts 0. Class 2 is nowhere, and does not count.
    found = class_scores()(counted(np.array([0, 1]), np.array([0, 0]), 3))
    assert found == pytest.approx({"precision_macro": 0.25, "recall_macro": 0.5, "f1_macro": 1 / 3})


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_auc_is_the_share_of_pairs_in_the_right_order_and_ap_the_mean_precision(pairs):
    label, score = np.array(pairs, int).T
    found = ranking()(rows(label, score / 8))
    above, below = score[label == 1][:, None], score[label == 0]
    if above.size and below.size:
        assert found["auc"] == pytest.approx(((above > below) + (above == below) / 2).mean())
        assert found["auc"] == pytest.approx(np.trapezoid(found["roc"][:, 2], found["roc"][:, 1]))
    else:
        assert np.isnan(found["auc"])
    # The precision among all that score as high as a positive does, on average over the positives.
    expected = np.mean([(label[score >= s]).mean() for s in score[label == 1]]) if above.size else 0
    assert found["average_precision"] == pytest.approx(expected)
    assert (found["roc"][:, 0] == 1).all() and (found["precision_recall"][:, 0] == 1).all()


def test_of_several_classes_each_is_held_against_the_rest():
    label, scores = RNG.integers(4, size=60), RNG.multinomial(16, np.ones(4) / 4, 60) / 16
    found = ranking()(rows(label, scores))
    assert found["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(label, scores, multi_class="ovr"))
    assert found["average_precision"] == pytest.approx(sklearn.metrics.average_precision_score(label, scores))
    for c in range(4):
        curve = found["precision_recall"][found["precision_recall"][:, 0] == c]
        area = -np.sum(np.diff(curve[:, 1]) * curve[:-1, 2])
        assert area == pytest.approx(sklearn.metrics.average_precision_score(label == c, scores[:, c]), abs=1e-6)
        roc = found["roc"][found["roc"][:, 0] == c]
        assert roc[0, 1:].tolist() == [0, 0, np.inf] and roc[-1, 1:3].tolist() == [1, 1]


def test_an_absent_class_makes_auc_nan_and_counts_0_in_average_precision():
    scores = RNG.dirichlet(np.ones(3), 20)
    label = np.arange(20) % 2
    found = ranking()(rows(label, scores))
    assert np.isnan(found["auc"])
    expected = [sklearn.metrics.average_precision_score(label == c, scores[:, c].astype(np.float32)) for c in (0, 1)]
    assert found["average_precision"] == pytest.approx(sum(expected) / 3)


def test_scores_that_have_no_order_and_no_examples_are_errors():
    with pytest.raises(UserError, match="the probabilities of 1 of 2 examples are not finite"):
        ranking()(rows([0, 1], [0.5, np.nan]))
    with pytest.raises(UserError, match="needs an example"):
        ranking()(rows([], np.zeros((0, 2))))
    with pytest.raises(UserError, match="the label 2 is out of range for 2 classes"):
        ranking()(rows([0, 2], [0.5, 0.1]))
    with pytest.raises(UserError, match="the label -1 is out of range"):
        ranking()(rows([0, -1], [0.5, 0.1]))
    with pytest.raises(UserError, match="stores no probabilities"):
        ranking()({"rows": {"label": np.zeros(3)}})
    with pytest.raises(UserError, match="the confusion matrix is empty"):
        class_scores()({"confusion": np.zeros((2, 2))})
    with pytest.raises(UserError, match="a logit is NaN"):
        class_scores()({"confusion": np.eye(2), "accuracy": np.nan})
    with pytest.raises(UserError, match="unknown result 'confusion'"):
        class_scores()({"loss": 1.0})
    with pytest.raises(UserError, match="unknown average 'makro'.*macro"):
        class_scores("makro")
    with pytest.raises(UserError, match="'binary' needs two classes; there are 3"):
        class_scores("binary")({"confusion": np.eye(3)})


def test_the_nuscenes_score_of_two_published_detectors():
    """Caesar et al. 2020, Table 4: the metrics of PointPillars and MonoDIS on the test set, and their NDS."""
    lower = dict.fromkeys(("mATE", "mASE", "mAOE", "mAVE", "mAAE"), 1)
    score = composite("NDS", higher={"mAP": 5}, lower=lower)
    for values, nds in (
        ((0.305, 0.517, 0.290, 0.500, 0.316, 0.368), 0.453),
        ((0.304, 0.738, 0.263, 0.546, 1.553, 0.134), 0.384),
    ):
        results = dict(zip(("mAP", *lower), values, strict=True))
        assert score(results)["NDS"] == pytest.approx(nds, abs=5e-4)


def test_a_composite_scales_what_is_lower_and_passes_nan_on():
    score = composite(higher={"a": 1}, lower={"b": 3}, worst={"b": 4})
    assert score({"a": 0.5, "b": np.array(1.0)}) == {"score": pytest.approx((0.5 + 3 * 0.75) / 4)}
    assert score({"a": 0.5, "b": 40}) == {"score": pytest.approx(0.5 / 4)}
    assert np.isnan(score({"a": 0.5, "b": np.nan})["score"]) and np.isnan(score({"a": np.nan, "b": 1})["score"])
    for wrong, why in (
        (dict(higher={"a": 0}), "the weight of 'a' in 'score' is 0"),
        (dict(higher={"a": np.nan}), "the weight of 'a'"),
        (dict(lower={"a": 1}, worst={"a": -1}), "the worst of 'a'"),
        (dict(lower={"auc": 1}, worst={"aux": 1}), "'aux'.*auc"),
        (dict(higher={"a": 1}, lower={"a": 1}), "in both higher= and lower="),
        (dict(), "has no metric"),
    ):
        with pytest.raises(UserError, match=why):
            composite(**wrong)
    for results in ({"a": 1}, {"a": 1, "b": np.zeros(2)}, {"a": 1, "b": "text"}):
        with pytest.raises(UserError, match="unknown metric 'b'"):
            score(results)


def test_finishes_in_turn_see_what_was_found_before():
    first = lambda results: {"x": results["mse"] ** 0.5, "left": 1}
    second = lambda results: {"y": results["x"] + results["mse"], "left": 2}
    assert chain(first, second)({"mse": 4}) == {"x": 2, "y": 6, "left": 2}
    assert chain()({"mse": 4}) == {}
