import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from research.core import Rows, Trained, eval_step, merge
from research.errors import UserError
from research.metric_sums import Total
from research.metrics.classification import (
    CalibrationError,
    Confusion,
    brier,
    confusion,
    log_odds,
    measure_classification,
    predict_classes,
    reliability,
    top_hits,
)
from research.metrics.scores import ranking

fetch_f64 = functools.partial(jax.tree.map, lambda x: np.asarray(x, np.float64))

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4)).astype(np.float32)
Y = RNG.integers(5, size=23)
W = RNG.normal(size=(4, 5)).astype(np.float32)


def linear(params, stats, x, *, key=None, train=False):
    assert not train
    return x @ params, {}


TRAINED = Trained(linear, W, {})
MEASURE = measure_classification(num_classes=5)


def padded(start, size=10):
    """A batch of `size` whose last rows may be padding, with labels that would be counted."""
    x, y = X[start : start + size], Y[start : start + size]
    missing = size - len(x)
    return {
        "image": np.concatenate([x, np.full((missing, 4), np.nan, np.float32)]),
        "label": np.concatenate([y, np.zeros(missing, int)]),
        "mask": np.concatenate([np.ones(len(x)), np.zeros(missing)]),
    }


def test_ragged_padded_batches_give_what_sklearn_gives_for_the_whole_set():
    measure, step = jax.jit(MEASURE), eval_step(linear, MEASURE)
    totals, rows = None, []
    for start in (0, 10, 20):
        if totals is None:
            states = measure(TRAINED, padded(start))
            found = states.pop("rows")
            assert not any(isinstance(state, Rows) for state in states.values())
            totals = Total.zero(states).plus(states)
        else:
            totals, found = step(W, {}, totals, padded(start))
            found = found["rows"]
        rows.append({name: np.asarray(v)[np.asarray(found.mask) > 0] for name, v in found.values.items()})
    rows = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    scores = X.astype(np.float64) @ W
    probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    prediction = scores.argmax(-1)
    values = {name: np.asarray(state.value()) for name, state in totals.sum.items()}
    np.testing.assert_allclose(values["accuracy"], sklearn.metrics.accuracy_score(Y, prediction), rtol=1e-6)
    np.testing.assert_allclose(values["loss"], sklearn.metrics.log_loss(Y, probabilities, labels=range(5)), rtol=1e-5)
    expected = sklearn.metrics.confusion_matrix(Y, prediction, labels=range(5))
    assert (expected != expected.T).any()
    np.testing.assert_array_equal(values["confusion"], expected)
    np.testing.assert_array_equal(rows["label"], Y)
    np.testing.assert_array_equal(rows["prediction"], prediction)
    np.testing.assert_allclose(rows["confidence"], probabilities.max(-1), rtol=1e-5)
    np.testing.assert_allclose(rows["loss"], -np.log(probabilities[np.arange(23), Y]), rtol=1e-4)


def test_predictions_need_no_labels():
    found = jax.device_get(jax.jit(predict_classes())(TRAINED, {"image": X}))
    np.testing.assert_array_equal(found["prediction"], (X @ W).argmax(-1))
    np.testing.assert_allclose(found["probabilities"].sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found["confidence"], found["probabilities"].max(-1))


def test_a_label_out_of_range_is_in_no_cell_and_makes_the_loss_nan():
    labels, ones = np.array([-1, 5, 2]), np.ones(3)
    counts, measured = jax.device_get(
        jax.jit(
            lambda labels: (
                confusion(labels, jnp.array([1, 1, 1]), num_classes=5, weights=ones),
                MEASURE(TRAINED, {"image": X[:3], "label": labels}),
            )
        )(labels)
    )
    assert isinstance(counts, Confusion)
    assert counts.value().sum() == 1 and counts.value()[2, 1] == 1
    assert np.isnan(measured["loss"].value())


def test_another_number_of_classes_is_an_error():
    with pytest.raises(UserError, match="returns 5 classes; the measure expects 4"):
        measure_classification(num_classes=4)(TRAINED, padded(0))
    with pytest.raises(UserError, match="unknown batch field 'picture'"):
        measure_classification(num_classes=5, inputs="picture")(TRAINED, padded(0))


def test_calibration_brier_and_top_k_over_ragged_batches_in_any_order():
    measure = jax.jit(measure_classification(num_classes=5, top=(2, 3), bins=4))
    parts = [measure(TRAINED, padded(start, 6)) for start in range(0, 24, 6)]
    rows = [part.pop("rows") for part in parts]
    forward, backward = (fetch_f64(functools.reduce(merge, order)) for order in (parts, parts[::-1]))
    whole = measure(TRAINED, {"image": X, "label": Y})
    scores = X.astype(np.float64) @ W
    probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    kept = np.concatenate([np.asarray(row.values["probabilities"])[np.asarray(row.mask) > 0] for row in rows])
    np.testing.assert_allclose(kept, probabilities, rtol=1e-5)
    confidence, hit = probabilities.max(-1), probabilities.argmax(-1) == Y
    at = [next(b for b in range(4) if c <= (b + 1) / 4) for c in confidence]
    bins = [[b == found for found in at] for b in range(4)]
    expected = {
        "top_2": sklearn.metrics.top_k_accuracy_score(Y, scores, k=2, labels=range(5)),
        "top_3": sklearn.metrics.top_k_accuracy_score(Y, scores, k=3, labels=range(5)),
        "brier": sklearn.metrics.brier_score_loss(Y, probabilities, labels=range(5)),
        "ece": sum(sum(b) / 23 * abs(confidence[b].mean() - hit[b].mean()) for b in bins if any(b)),
        "reliability": [[sum(b), *((confidence[b].mean(), hit[b].mean()) if any(b) else [np.nan] * 2)] for b in bins],
    }
    assert 0 < expected["top_2"] < expected["top_3"] < 1 and sum(any(b) for b in bins) > 2
    for name, value in expected.items():
        for states in (forward, backward, fetch_f64({name: whole[name]})):
            np.testing.assert_allclose(states[name].value(), value, rtol=1e-5, err_msg=name)


def test_the_brier_score_of_two_classes_is_half_as_in_sklearn():
    p = np.array([[0.2, 0.8], [0.9, 0.1], [0.4, 0.6]])
    assert brier(p, np.array([1, 0, 0])).mean() == pytest.approx(sklearn.metrics.brier_score_loss([1, 0, 0], p[:, 1]))
    assert np.isnan(brier(p, np.array([1, 2, -1]))).tolist() == [False, True, True]


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4, st.integers(0, 3)), min_size=1, max_size=20), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_ties_among_the_top_k_are_those_of_sklearn(table, k):
    *scores, label = np.array(table + [[0, 0, 0, 0, 1]] * (20 - len(table))).T
    scores = np.stack(scores, 1)
    expected = sklearn.metrics.top_k_accuracy_score(label, scores, k=k, labels=range(4))
    found = jax.jit(top_hits, static_argnums=2)(scores.astype(np.float32), label, k)
    assert found.mean() == pytest.approx(expected)


def test_a_label_that_is_no_class_is_not_among_the_top():
    assert top_hits(np.zeros((3, 2), np.float32), np.array([-1, 2, 0]), 2).tolist() == [0, 0, 1]


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin():
    confidence = np.array([0.0, 0.25, 0.2500001, 0.5, 1.0, np.nan], np.float32)
    tabled = jax.jit(lambda hits, weights: reliability(confidence, hits, bins=4, weights=weights))
    found = tabled(np.array([0, 1, 0, 1, 1, 1]), np.array([1, 1, 1, 1, 1, 0]))
    table = np.asarray(found.value())
    assert table[:, 0].tolist() == [2, 2, 0, 1]
    np.testing.assert_allclose(table[:, 1], [0.125, 0.375, np.nan, 1], rtol=1e-6)
    np.testing.assert_allclose(table[:, 2], [0.5, 0.5, np.nan, 1])
    assert CalibrationError(found).value() == pytest.approx((0.75 + 0.25) / 5)
    none = tabled(np.ones(6), np.zeros(6))
    assert CalibrationError(none).value() == 0 and np.isnan(none.value()[:, 1:]).all()


def test_logits_with_a_nan_have_no_prediction_and_make_the_numbers_nan():
    measure = jax.jit(measure_classification(num_classes=5, top=(2,)))
    x = X[:3].copy()
    x[1, 0] = np.nan
    found = fetch_f64({k: v for k, v in measure(TRAINED, {"image": x, "label": Y[:3]}).items() if k != "rows"})
    assert all(np.isnan(found[name].value()) for name in ("loss", "accuracy", "top_2", "brier", "ece"))
    assert found["confusion"].value().sum() == 2


def test_probabilities_of_many_classes_are_not_kept():
    measure = measure_classification(num_classes=5, keep=4)
    rows = measure(TRAINED, padded(0))["rows"].values
    assert set(rows) == {"label", "weight", "prediction", "confidence", "loss"}


@pytest.mark.parametrize("bins", [7, 10, 15, 100])
def test_a_confidence_at_an_end_of_a_bin_is_in_the_bin_below(bins):
    confidence = (np.arange(1, bins + 1) / bins).astype(np.float32)  # k / bins is the upper end of bin k - 1
    for shift, expected in ((confidence, range(bins)), (np.nextafter(confidence, np.float32(2)), range(1, bins + 1))):
        for k, value in zip(expected, shift, strict=True):
            found = COUNTS(np.array([value]), np.ones(1), bins=bins, weights=np.ones(1))
            assert np.flatnonzero(found.count).tolist() == [min(k, bins - 1)]


COUNTS = jax.jit(reliability, static_argnames="bins")


def test_log_odds_are_those_of_f64():
    logits = np.random.default_rng(1).normal(size=(40, 3)) * np.geomspace(0.01, 300, 40)[:, None]
    logits = logits.astype(np.float32)
    exact = [
        logits[:, c].astype(np.float64) - scipy.special.logsumexp(np.delete(logits, c, 1).astype(np.float64), axis=1)
        for c in range(3)
    ]
    found = jax.jit(log_odds)(logits)
    np.testing.assert_allclose(found, np.stack(exact, -1), rtol=1e-5, atol=1e-5)
    ends = log_odds(jnp.array([[0, -jnp.inf, -jnp.inf], [0, jnp.nan, 1]]))
    assert np.isfinite(ends[0]).all() and ends[0, 0] > 1e38 > -1e38 > ends[0, 1] and np.isnan(ends[1]).all()


def test_auc_ranks_confident_predictions_and_weights_examples():
    rng = np.random.default_rng(2)
    margin, label = rng.uniform(18, 40, 60).astype(np.float32), rng.integers(2, size=60)
    weight = rng.uniform(0.1, 3, 60).astype(np.float32)
    logits = np.stack([np.zeros(60, np.float32), margin], -1)
    trained = Trained(lambda p, s, x, train: (x, {}), {}, {})
    measure = measure_classification(num_classes=2, inputs="x")
    found = measure(trained, {"x": logits, "label": label, "mask": weight})["rows"].values
    assert len(set(np.asarray(found["probabilities"][:, 1]))) == 1
    scores = ranking()({"rows": found})
    expected = sklearn.metrics.roc_auc_score(label, margin, sample_weight=weight)
    assert scores["auc"] == pytest.approx(expected) and abs(expected - 0.5) > 0.01
    assert expected != pytest.approx(sklearn.metrics.roc_auc_score(label, margin), rel=1e-3)
    expected = sklearn.metrics.average_precision_score(label, margin, sample_weight=weight)
    assert scores["average_precision"] == pytest.approx(expected)
    rate = sklearn.metrics.roc_curve(label, margin, sample_weight=weight)
    np.testing.assert_allclose(scores["roc"][:, 1:3].T, rate[:2], rtol=1e-6)
    np.testing.assert_allclose(scores["roc"][1:, 3], scipy.special.expit(rate[2][1:].astype(np.float64)), rtol=1e-6)
    recall = sklearn.metrics.precision_recall_curve(label, margin, sample_weight=weight, drop_intermediate=True)
    np.testing.assert_allclose(scores["precision_recall"][:, 1:3].T, recall[1::-1], rtol=1e-6)
